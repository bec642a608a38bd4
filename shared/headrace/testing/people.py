"""Who acts in the engine, and how what they ask reaches an owner: as a sealed command, as the api sends it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.bus.port import Bus
from headrace.envelope import Message
from headrace.errors import (
    HeadraceError,
    NotFoundError,
    TooLargeError,
    UnavailableError,
    UnprocessableError,
    from_envelope,
)
from headrace.events.base import Actor
from headrace.keys import COMMANDS, Keys
from headrace.messages import Answer, Command
from headrace.vocabulary import LOG_PARTITIONS, WORKSPACE_DEFAULT, Role

PEOPLE: Final[Mapping[str, tuple[str, ...]]] = {
    "ann": (Role.OPERATOR,),
    "dan": (Role.OPERATOR,),
    "bob": (Role.APPROVER,),
    "cleo": (Role.APPROVER,),
    "eve": (Role.VIEWER,),
    "root": (Role.ADMIN,),
}
"""Who acts in tests, and their roles."""
ASK_S: Final = 30.0
AGAIN_S: Final = 1.0


class People:
    """Sends commands as people known by name."""

    def __init__(self, bus: Bus, keys: Keys, people: Mapping[str, Sequence[str]]) -> None:
        self._bus, self._keys, self._people = bus, keys, people
        self._routes = 0

    def actor(self, name: str) -> Actor:
        """Give a person; raises NotFoundError that names the known ones."""
        if name not in self._people:
            message = f"nobody is called {name!r}; known are: {', '.join(self._people)} (Engine(people=…) adds some)"
            raise NotFoundError(message)
        return Actor(id=f"tok_{name}", name=name, roles=tuple(map(str, self._people[name])))

    async def ask(
        self, log: str, command: Message, *, stream: str | None = None, as_: str, key: str | None = None
    ) -> dict[str, Any]:
        """Send a command until somebody answers and give the answer's body; raises the error that it carries."""
        body = Command(
            body=codec.raw(command), actor=self.actor(as_), workspace=WORKSPACE_DEFAULT, stream_id=stream, key=key
        )
        self._routes += 1
        route = key or str(self._routes)
        parts = LOG_PARTITIONS[log]
        place = ids.partition_for(parts, WORKSPACE_DEFAULT, route) if stream is None else ids.partition_of(stream)
        data = self._keys.pack(COMMANDS, codec.encode(body))
        while True:
            try:
                packed = await self._bus.command(log, place, data, timeout_s=ASK_S)
                break
            except UnavailableError:
                await asyncio.sleep(AGAIN_S)
        answer = msgspec.json.decode(packed, type=Answer)
        if answer.error is not None:
            raise _refusal(answer)
        known: dict[str, Any] = codec.loads(answer.body)
        return known


def _refusal(answer: Answer) -> HeadraceError:
    """Make the error that an answer carries; 413 and 422 share their type with 400."""
    info = answer.error
    assert info is not None, "the answer is a refusal"
    match answer.status:
        case 413:
            return TooLargeError(info.message, details=info.details)
        case 422:
            return UnprocessableError(info.message, details=info.details)
        case _:
            return from_envelope(msgspec.to_builtins(info))
