"""Reading what older code wrote: every change of an event's meaning is one pure step upward, and steps chain (pure).

An event class carries `SCHEMA`, and every stored event says under which one it was written. To change what an event
means, raise `SCHEMA` and add the step that reads the schema before it to `UPCASTERS`; a reader of old bytes then gets
the newest class. Stored bytes are never rewritten, and the chain hashes them as they are, so it verifies without this.

A step gets an event's fields with their values undecoded, so that outputs which it does not touch stay byte for byte.
A new optional field whose default means what was true before needs no step.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Final, Protocol

import msgspec

from headrace import codec
from headrace.codec import Raw
from headrace.errors import DatabaseVersionError
from headrace.events.base import Event

type Fields = dict[str, Raw]
"""An event's fields by name, each the JSON that was stored."""
type Upcast = Callable[[Fields], Fields]
"""Gives the fields of the next schema; must not change what it is given."""

UPCASTERS: Final[Mapping[tuple[str, int], Upcast]] = {}
"""The steps, by event name and the schema that each reads. A step that was shipped is never changed."""

OURS: Final = re.compile(
    r"^(?:from (headrace\w*(?:\.\w+)*) import (\([^)]*\)|[^\n]*)|import (headrace\w*(?:\.\w+)*))", re.MULTILINE
)
FINGERPRINT_CHARS: Final = 32

_fields = msgspec.json.Decoder(dict[str, Raw])


class Stored(Protocol):
    """An event as a log gives it."""

    @property
    def type(self) -> str:
        """Its name."""
        ...

    @property
    def schema(self) -> int:
        """The schema it was written under."""
        ...

    @property
    def data(self) -> bytes:
        """Its bytes."""
        ...


class Reader:
    """Reads events of every schema up to the newest that this code knows.

    Raises ValueError at once when a class has no unbroken chain of steps from schema 1 to its own, or a step leads
    nowhere: that is a mistake in this code.
    """

    def __init__(self, kinds: Iterable[type[Event]], upcasters: Mapping[tuple[str, int], Upcast] = UPCASTERS) -> None:
        self._kinds = {kind.type_name(): kind for kind in kinds}
        self._decoders = {name: msgspec.json.Decoder(kind) for name, kind in self._kinds.items()}
        self._upcasters = dict(upcasters)
        wanted = {(name, schema) for name, kind in self._kinds.items() for schema in range(1, kind.SCHEMA)}
        if wanted != self._upcasters.keys():
            missing, idle = sorted(wanted - self._upcasters.keys()), sorted(self._upcasters.keys() - wanted)
            message = f"upcasters do not fit the events: missing {missing}, leading nowhere {idle}"
            raise ValueError(message)

    def decode(self, name: str, data: bytes, schema: int | None = None) -> Event:
        """Read an event's bytes, written under `schema` (None: by this very code).

        Raises DatabaseVersionError for a name or a schema that this code does not know.
        """
        kind = self._kinds.get(name)
        if kind is None:
            message = f"the log holds events {name!r}, which this code does not know: use a newer headrace with it"
            raise DatabaseVersionError(message)
        if schema is not None and schema != kind.SCHEMA:
            data = self._raised(kind, data, schema)
        return self._decoders[name].decode(data)

    def read(self, stored: Stored) -> Event:
        """Read a stored event; raises as `decode`."""
        return self.decode(stored.type, stored.data, stored.schema)

    def _raised(self, kind: type[Event], data: bytes, schema: int) -> bytes:
        name = kind.type_name()
        if not 1 <= schema < kind.SCHEMA:
            message = (
                f"the log holds {name!r} of schema {schema}, and this code knows it up to {kind.SCHEMA}: "
                "use a newer headrace with it"
            )
            raise DatabaseVersionError(message)
        fields = _fields.decode(data)
        for step in range(schema, kind.SCHEMA):
            fields = self._upcasters[name, step](fields)
        return codec.dumps(fields)


@cache
def fingerprint(*folding: ModuleType) -> str:
    """Give the hash of all of our own source that these modules need, upcasters among it.

    A snapshot is only as good as the code that folded it: the modules that fold events, everything of ours that they
    import, and this one. So the hash follows every change by itself; a changed comment costs a few snapshots.
    """
    sources = {module.__name__: inspect.getsource(module) for module in _closure((*folding, sys.modules[__name__]))}
    text = "\x1f".join(f"{name}\x1e{source}" for name, source in sorted(sources.items()))
    return codec.sha256(text.encode()).removeprefix("sha256:")[:FINGERPRINT_CHARS]


def _closure(modules: Iterable[ModuleType]) -> Iterable[ModuleType]:
    known: dict[str, ModuleType] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module.__name__ not in known:
            known[module.__name__] = module
            waiting.extend(sys.modules[name] for name in _imported(module) if name in sys.modules)
    return known.values()


def _imported(module: ModuleType) -> Iterator[str]:
    """Name what a module imports of ours; names that are no modules are left to the caller to skip."""
    for source, names, whole in OURS.findall(inspect.getsource(module)):
        if whole:
            yield whole
            continue
        yield source
        for each in names.strip("()").split(","):
            yield f"{source}.{each.strip().partition(' ')[0]}"
