"""An item: one message for one stream, from wherever it came, until what it caused is committed."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from headrace.errors import HeadraceError
from headrace.events.base import SYSTEM, Actor
from headrace.messages import Advance, ReportAttempt, Wake

if TYPE_CHECKING:
    from headrace.host.tenure import Held
    from headrace.log.port import KeptAnswer

ADVANCE: Final = Advance()
WAKE: Final = Wake()
UNHEARD: Final = Wake(unheard=True)


class Origin(Enum):
    """Where an item came from, which says how it is answered and acknowledged."""

    COMMAND = auto()
    CLAIM = auto()
    INBOX = auto()
    HOST = auto()


class Item(msgspec.Struct, eq=False):
    """A message on its way through the host.

    `workspace` None means: the stream's own. `refusal` is set by a preparer that refused it. `minted`: its stream
    is new, so that nothing need be read. `decided` says that the
    command's events stand in the open draft, so that after fetching a blob only the advance is left to do; `part` how many
    of its `commands` do. `others` are decided with it.
    `meta` is that of the events it causes, once made. `end_to` is who wants to be told how the stream that it creates ended. `kept` is what was answered under its key
    before, as the log said; `asked` that it was asked.
    """

    held: Held
    origin: Origin
    stream_id: str
    command: Any
    workspace: str | None = None
    actor: Actor = SYSTEM
    body: bytes = b""
    key: str | None = None
    request_digest: str = ""
    traceparent: str | None = None
    reply: Callable[[bytes], None] | None = None
    sequence: int | None = None
    minted: bool = False
    restart: bool = False
    restarted: bool = False
    refusal: HeadraceError | None = None
    decided: bool = False
    part: int = 0
    others: list[Item] = []
    created: bool = False
    end_to: str = ""
    outcome: bytes | None = None
    meta: bytes = b""
    kept: KeptAnswer | None = None
    asked: bool = False

    @property
    def commands(self) -> tuple[Any, ...]:
        """Give what is decided one after the other: the command, and the results that follow it in a chain."""
        return (self.command, *self.command.then) if type(self.command) is ReportAttempt else (self.command,)

    @property
    def cause(self) -> str:
        """Give the command's name, which the meta of its events carries."""
        kind: type[msgspec.Struct] = type(self.command)
        return _name_of(kind)

    def again(self) -> None:
        """Forget what was decided of it, because that was not committed."""
        if self.restarted:
            self.held.unproven.add(self.stream_id)
        self.decided, self.created, self.restarted, self.outcome, self.part = False, False, False, None, 0
        self.others = []


@cache
def _name_of(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def advance(held: Held, stream_id: str, *, restart: bool = False) -> Item:
    """Make the item that goes on with a stream; `restart` also sets going what should be under way."""
    return Item(held, Origin.HOST, stream_id, ADVANCE, restart=restart)


def wake(held: Held, stream_id: str, performed_ms: int | None = None) -> Item:
    """Make the item that tells a stream that a time has come, and how long anything of it has been performed."""
    if stream_id in held.unproven:
        return Item(held, Origin.HOST, stream_id, UNHEARD)
    return Item(held, Origin.HOST, stream_id, WAKE if performed_ms is None else Wake(performed_ms=performed_ms))
