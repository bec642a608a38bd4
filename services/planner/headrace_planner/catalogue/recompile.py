"""The shell that keeps workflows' plans true to the tools: when a tool changes, what uses it is compiled again."""

import asyncio
import logging
from functools import partial
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.bus.opening import until_open
from headrace.bus.port import Bus
from headrace.clock import Clock
from headrace.codec import NULL
from headrace.errors import HeadraceError, UnavailableError
from headrace.events.base import SYSTEM
from headrace.events.catalogue import ToolAnnounced, WorkflowApplied, WorkflowCompiled
from headrace.keys import COMMANDS, Keys
from headrace.messages import Answer, Command, RecompileWorkflow
from headrace.vocabulary import LOG_CATALOGUE
from headrace.wire import FeedEvent
from headrace_planner.catalogue.prepare import CataloguePreparer
from headrace_planner.catalogue.reading import Store, all_rows

COMMAND_TIMEOUT_S: Final = 10.0
AGAIN_S: Final = 1.0
MOVING: Final = {kind.type_name() for kind in (ToolAnnounced, WorkflowApplied, WorkflowCompiled)}
"""Events after which a plan may be another one: its tools changed, or a workflow that it runs as a child."""

_answers = msgspec.json.Decoder(Answer)
_feed = msgspec.json.Decoder(list[FeedEvent])
_log = logging.getLogger(__name__)


class Recompiler:
    """Compiles all workflows once at its start, for what changed while nobody listened, and after each new tool."""

    def __init__(self, log: Store, bus: Bus, keys: Keys, clock: Clock, preparer: CataloguePreparer) -> None:
        self._log, self._bus, self._keys, self._clock, self._preparer = log, bus, keys, clock, preparer
        self._changed = asyncio.Event()
        self._changed.set()

    async def run(self) -> None:
        """Listen to the catalogue's feed until cancelled."""
        subscription = await until_open(partial(self._bus.open_feed, LOG_CATALOGUE, self.heard), self._clock)
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                try:
                    await self.recompile()
                except UnavailableError as problem:
                    _log.info("workflows are compiled again a little later: %s", problem)
                    await self._clock.sleep(AGAIN_S)
                    self._changed.set()
        finally:
            await subscription.close()

    def heard(self, data: bytes) -> None:
        """Take the catalogue's committed events in."""
        try:
            events = _feed.decode(data)
        except msgspec.DecodeError as problem:
            _log.warning("the feed of the catalogue brought something else: %s", problem)
            return
        said = {event.type for event in events}
        if ToolAnnounced.type_name() in said:
            self._preparer.tools.forget()
        if said & MOVING:
            self._changed.set()

    async def recompile(self) -> None:
        """Compile every workflow, and have those recorded whose plan is another one now."""
        for row in await all_rows(self._log, "workflows", {}):
            try:
                moved = await self._moved(row)
            except UnavailableError:
                raise
            except HeadraceError as problem:
                _log.warning("workflow %s could not be compiled: %s", row["name"], problem)
                continue
            if moved:
                await self._send(row)

    async def _moved(self, row: dict[str, Any]) -> bool:
        made = await self._preparer.compiled(codec.raw(row["spec"]), row["workspace"])
        digest = None if made.plan == NULL else codec.sha256(bytes(made.plan))
        return bool(digest != row["plan_digest"])

    async def _send(self, row: dict[str, Any]) -> None:
        body = codec.Raw(codec.encode(RecompileWorkflow()))
        command = Command(body=body, actor=SYSTEM, workspace=row["workspace"], stream_id=row["id"])
        partition = ids.partition_of(row["id"])
        sealed = self._keys.pack(COMMANDS, codec.encode(command))
        reply = await self._bus.command(LOG_CATALOGUE, partition, sealed, timeout_s=COMMAND_TIMEOUT_S)
        answer = _answers.decode(reply)
        if answer.error is not None:
            _log.warning("workflow %s was not compiled again: %s", row["name"], answer.error.message)
