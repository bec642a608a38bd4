"""The api service: HTTP over the log, the feed, presence and lines, until it is told to stop."""

import asyncio
import contextlib
from functools import partial
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.clock import Clock, SystemClock, mint
from headrace.config import Config
from headrace.errors import UnavailableError
from headrace.ids import REQUEST
from headrace.keys import COMMANDS
from headrace.log.retention import held
from headrace.serving import Running, serve
from headrace_api.answers import envelope
from headrace_api.app import create_app
from headrace_api.desk import Desk


class Opening:
    """The application before its database answers: every request is told to come again, none is lost silently."""

    def __init__(self, clock: Clock) -> None:
        self.app: ASGIApp | None = None
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or one life of the process."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            problem = UnavailableError(
                "the api is starting: its database does not answer yet", details={"retry_after_s": 1}
            )
            response = envelope(problem, problem.status, mint(self._clock, REQUEST), self._clock.now_ms())
            await response(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start and stop; what lives in between is `main`'s."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


class ApiService:
    """What `headrace serve api` runs."""

    name: Final = "api"

    async def run(self, config: Config) -> None:
        """Serve until cancelled. Raises HeadraceError for what an operator can mend."""
        config.keys.key(COMMANDS)  # refused here, by name, rather than at the first write
        opening = Opening(SystemClock())

        async def main(running: Running) -> None:
            stragglers = partial(held, config.database_url or "", config.retention_months)
            log = running.log
            desk = Desk(log, running.bus, config.keys, running.clock, stragglers=stragglers, gone=log.gone)
            opening.app = create_app(desk)
            async with contextlib.AsyncExitStack() as stack:
                for subscription in await desk.open():
                    stack.push_async_callback(subscription.close)
                stack.callback(desk.end)  # first of all: then open streams end by themselves, and quietly
                await asyncio.Event().wait()

        await serve(self.name, config, main=main, asgi=opening, database=True)


service = ApiService()
