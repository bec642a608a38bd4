"""Golden samples of events: one full sample of each, made from its type; files are only ever added.

`python -m tests.architecture.golden` writes the samples that are missing. A file that is there is never written again:
when an event changes its meaning, it becomes a new event with an upcast, and the old file goes on proving the old bytes.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from headrace import codec
from headrace.events.base import Event
from headrace.events.registry import BY_NAME

EVENTS = Path(__file__).parents[1] / "golden" / "events"


def file_of(name: str, schema: int | None = None) -> Path:
    """Give the golden file of an event, of its newest schema or another."""
    number = schema or BY_NAME[name].SCHEMA
    return EVENTS / (f"{name}.json" if number == 1 else f"{name}@{number}.json")


def read_name(file: Path) -> tuple[str, int]:
    """Tell the event and the schema of a golden file."""
    name, _, schema = file.stem.partition("@")
    return name, int(schema or 1)


def sample(kind: type[Event]) -> Event:
    """Make an event with every field filled, so that its bytes name them all."""
    made = msgspec.convert(_value(msgspec.inspect.type_info(kind), kind.type_name()), kind)
    assert isinstance(made, Event)
    return made


def _other(field: msgspec.inspect.Field) -> Any:
    """Give a value that is not the default, since defaults are left out of the bytes."""
    value = _value(field.type, field.encode_name)
    return not value if value is field.default else value


def _value(kind: msgspec.inspect.Type, name: str) -> Any:
    """Give a value of a type, telling by the field's name what it is."""
    match kind:
        case msgspec.inspect.StructType():
            values = {field.encode_name: _other(field) for field in kind.fields}
            return values if kind.tag is None else {str(kind.tag_field): kind.tag, **values}
        case msgspec.inspect.UnionType():
            return _value(next(one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)), name)
        case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
            return [_value(kind.item_type, name)]
        case msgspec.inspect.TupleType():
            return [_value(one, name) for one in kind.item_types]
        case msgspec.inspect.DictType():
            return {f"{name}_key": _value(kind.value_type, f"{name}_value")}
        case msgspec.inspect.StrType():
            return f"a {name}"
        case msgspec.inspect.IntType():
            return 1_790_000_000_000 if name.endswith("_at") else 7
        case msgspec.inspect.FloatType():
            return 1.5
        case msgspec.inspect.BoolType():
            return True
        case msgspec.inspect.RawType():
            return codec.raw({f"any {name}": [1, "two", None]})
        case msgspec.inspect.AnyType():
            return {f"any {name}": 1}
        case _:
            message = f"no sample value for {kind}: teach tests/architecture/golden.py to make one"
            raise TypeError(message)


def main() -> int:
    """Write what is missing and name it."""
    EVENTS.mkdir(parents=True, exist_ok=True)
    for name, kind in BY_NAME.items():
        if not file_of(name).exists():
            file_of(name).write_bytes(codec.encode(sample(kind)) + b"\n")
            sys.stdout.write(f"added {file_of(name).name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
