"""JSON bytes in and out, and digests of them (pure).

The bytes that are hashed are the bytes that are stored and published, so each document is serialised once. `msgspec`
does it on the hot path (measured fastest, and `msgspec.Raw` lets an output pass through undecoded); what it refuses,
such as a number beyond a double, falls back to the standard library, so that nothing is lost. RFC 8785 is for the
digests that people compare (plans, what an approval showed): it costs 20 µs a document where msgspec costs 0.3.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import rfc8785

from headrace.errors import ValidationError

Raw = msgspec.Raw
NULL: Final = Raw(b"null")
INTEGER_MAX: Final = 2**53 - 1
DEPTH_MAX: Final = 200
HARMLESS: Final = frozenset({str, int, bool, type(None)})
"""What the fast encoder writes as it is, or refuses by itself."""
LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
PLAIN: Final = re.compile(rb'(?:"[ !#-\[\]-~]*+"|[\[\]{},:]|true|false|null|-?[0-9]{1,15}(?![0-9]))*+')
"""JSON whose canonical form the fast encoder writes: printable ASCII without escapes, and whole numbers below 2^53."""

UNREAD: Final = object()

NUL_SHOWN: Final = "\u2400"
SURROGATE_SHOWN: Final = "\ufffd"

_encoder = msgspec.json.Encoder()
_sorter = msgspec.json.Encoder(order="sorted")


def dumps(value: object) -> bytes:
    """Serialise a value to JSON bytes; raises ValidationError when it is not JSON (NaN, a cycle, an odd object)."""
    try:
        _refuse_what_json_cannot_say(value, 0)
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeEncodeError):
        return _dumps_slowly(value)


def encode(struct: msgspec.Struct) -> bytes:
    """Serialise one of our own structs, which hold nothing that JSON cannot say."""
    return _encoder.encode(struct)


def storable(text: str) -> str:
    """Give a text as a database can hold it: NUL becomes U+2400, a lone surrogate U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", NUL_SHOWN)
    return text if text.isascii() else LONE_SURROGATE.sub(SURROGATE_SHOWN, text)


def texts(value: object) -> str:
    """Serialise to JSON text what holds texts, whole numbers, truths and null alone, without looking through it first."""
    try:
        return _encoder.encode(value).decode()
    except UnicodeEncodeError:
        return _dumps_slowly(value).decode()


def written(value: object) -> str:
    """Serialise a value to JSON text; raises ValidationError as `dumps` does."""
    return dumps(value).decode()


def raw(value: object) -> Raw:
    """Serialise a value to a `Raw` that passes through events and messages undecoded."""
    return value if isinstance(value, Raw) else Raw(dumps(value))


def loads(data: bytes | bytearray | memoryview | Raw | str) -> Any:
    """Read JSON; raises ValidationError. Numbers beyond a double become infinity, as the text said."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return json.loads(data if isinstance(data, str) else bytes(data), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        message = f"not JSON: {problem}"
        raise ValidationError(message) from problem


def type_of(value: object) -> str:
    """Name the type of a value as JSON Schema does, for people: string, integer, number, boolean, null, array, object."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case _:
            return "array" if isinstance(value, Iterable) else type(value).__name__


def canonical(value: object) -> bytes:
    """Serialise by RFC 8785; raises ValidationError for what it cannot say (integers beyond 2^53, NaN)."""
    try:
        return bytes(rfc8785.dumps(value))  # type: ignore[arg-type]  # checked by the callee, which raises
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as problem:
        message = f"has no canonical form: {problem}"
        raise ValidationError(message) from problem


def sha256(data: bytes | memoryview) -> str:
    """Give the digest of bytes as `sha256:` and 64 hex characters."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest(value: object) -> str:
    """Give the digest of a value's canonical form."""
    return sha256(canonical(value))


def digest_of(text: bytes | Raw, value: object = UNREAD) -> str:
    """Give the digest of the canonical form of what a JSON text says; raises ValidationError as `canonical` does.

    `value` is what was read of that text, or what it was made of, if that is at hand: lists, dicts and leaves alone.
    """
    if PLAIN.fullmatch(text):
        return sha256(_sorter.encode(loads(text) if value is UNREAD else value))
    return sha256(canonical(loads(text)))


def _refuse_what_json_cannot_say(value: object, depth: int) -> None:
    """Stop the fast encoder where it would change a value silently (it writes infinity as null)."""
    if type(value) in HARMLESS:
        return
    items: Iterable[object]
    if isinstance(value, dict):
        items = value.values()
    elif isinstance(value, list | tuple):
        items = value
    elif isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    else:
        return
    if depth > DEPTH_MAX:
        raise RecursionError
    for item in items:
        if type(item) not in HARMLESS:
            _refuse_what_json_cannot_say(item, depth + 1)


def _dumps_slowly(value: object) -> bytes:
    try:
        return _written(value, 0).encode()
    except (TypeError, ValueError, RecursionError) as problem:
        message = f"not JSON: {problem}"
        raise ValidationError(message) from problem


def _written(value: object, depth: int) -> str:
    """Write what the fast encoder refuses: infinities as numbers beyond a double, lone surrogates as their escape."""
    if depth > DEPTH_MAX:
        message = f"nested deeper than {DEPTH_MAX}"
        raise ValueError(message)
    match value:
        case str():
            return json.dumps(LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", value), ensure_ascii=False)
        case float() if math.isnan(value):
            message = "NaN is not a number that JSON knows; give null or a text instead"
            raise ValueError(message)
        case float() if math.isinf(value):
            return "1e999999" if value > 0 else "-1e999999"
        case dict():
            members = (f"{_written(str(key), depth)}:{_written(item, depth + 1)}" for key, item in value.items())
            return "{" + ",".join(members) + "}"
        case list() | tuple():
            return "[" + ",".join(_written(item, depth + 1) for item in value) + "]"
        case Raw():
            return bytes(value).decode()
        case None | bool() | int() | float():
            return json.dumps(value)
        case _:
            return _written(msgspec.to_builtins(value), depth + 1)


def _refuse_constant(name: str) -> object:
    message = f"{name} is not JSON"
    raise ValueError(message)
