"""Values that a JSON Schema allows, made up: what `headrace simulate` takes for a tool's output (pure).

    sample(manifest.output_schema, "run_1/build")    # the same value for the same text, always

The schemas are those that pydantic writes (JSON Schema 2020-12). What is not read here (`not`, `if`, regular expressions
beyond the common ones …) is refused, so that a value is right or there is none.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from headrace import codec
from headrace.errors import ValidationError
from headrace.expressions.types import referred
from headrace.specs.patterns import matching

DEPTH_FULL_MAX: Final = 5
"""Below this many levels only what a schema requires is made."""
DEPTH_MAX: Final = 40
ELEMENTS: Final = 2
DIFFERENT_TRIES_MAX: Final = 50
NUMBERS: Final = 100
UNREAD: Final = (
    *("not", "if", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "contains"),
    "patternProperties",
)
START: Final = datetime(2026, 1, 1, 9, tzinfo=UTC)
INFERRED: Final = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
}
"""The type that a schema without one most likely means, by a word in it; any other is a text."""

Schema = Mapping[str, Any]
Place = tuple[str | int, ...]


def sample(schema: Any, seed_text: str) -> Any:
    """Give a value that the schema allows; raises ValidationError that names the part for which none can be made."""
    return _Sampler(schema, seed_text).value(schema, (), 0)


class _Sampler:
    def __init__(self, root: Any, seed: str) -> None:
        self._root = root
        self._seed = seed

    def value(self, schema: Any, place: Place, depth: int) -> Any:
        if schema is True:
            schema = {}
        if not isinstance(schema, Mapping):
            raise _none(place, "nothing is allowed there")
        if depth > DEPTH_MAX:
            raise _none(place, "the schema has no end")
        whole = self._merged(schema, place)
        for word in UNREAD:
            if word in whole and not (word == "patternProperties" and not whole.get("minProperties")):
                raise _none(place, f"{word!r} is not read; state the value")
        if "const" in whole:
            return whole["const"]
        if isinstance(allowed := whole.get("enum"), list) and allowed:
            return allowed[self._number(place) % len(allowed)]
        for word in ("anyOf", "oneOf"):
            if isinstance(choices := whole.get(word), list) and choices:
                rest = {key: item for key, item in whole.items() if key != word}
                return self._first([_both(rest, choice) for choice in choices], place, depth)
        return self._typed(whole, place, depth)

    def _first(self, choices: list[Any], place: Place, depth: int) -> Any:
        """Give a value of the first choice that has one; deep down, of null first, so that there is an end."""
        if depth >= DEPTH_FULL_MAX:
            choices = sorted(choices, key=lambda one: not isinstance(one, Mapping) or one.get("type") != "null")
        problem: ValidationError | None = None
        for choice in choices:
            try:
                return self.value(choice, place, depth + 1)
            except ValidationError as found:
                problem = problem or found
        raise problem or _none(place, "there is no choice")

    def _merged(self, schema: Schema, place: Place) -> dict[str, Any]:
        """Give a schema with what it refers to and all of `allOf` in it."""
        whole = dict(schema)
        for _ in range(DEPTH_MAX):
            if isinstance(reference := whole.pop("$ref", None), str):
                if not reference.startswith("#"):
                    raise _none(place, f"the reference {reference!r} leads out of the schema")
                whole = _both(whole, referred(self._root, reference))
            elif isinstance(parts := whole.pop("allOf", None), list):
                for part in parts:
                    whole = _both(whole, part)
            else:
                return whole
        raise _none(place, "its references have no end")

    def _typed(self, schema: Schema, place: Place, depth: int) -> Any:
        wanted = schema.get("type")
        if isinstance(wanted, list):
            wanted = next((one for one in wanted if one != "null"), "null")
        wanted = wanted or next((kind for word, kind in INFERRED.items() if word in schema), "string")
        match wanted:
            case "object":
                return self._object(schema, place, depth)
            case "array":
                return self._array(schema, place, depth)
            case "string":
                return self._text(schema, place)
            case "integer" | "number":
                return self._numeral(schema, place, whole=wanted == "integer")
            case "boolean":
                return self._number(place) % 2 == 0
            case "null":
                return None
            case _:
                raise _none(place, f"{wanted!r} is no type")

    def _object(self, schema: Schema, place: Place, depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties") or {}, schema.get("required") or []
        rest = schema.get("additionalProperties", True)
        made: dict[str, Any] = {}
        for name in dict.fromkeys((*properties, *required)):
            part = properties.get(name, rest)
            if name in required:
                made[name] = self.value(part, (*place, name), depth + 1)
            elif depth < DEPTH_FULL_MAX and len(made) < schema.get("maxProperties", math.inf) - len(required):
                made.update(self._maybe(name, part, place, depth))
        wanted = schema.get("minProperties", 1 if isinstance(rest, Mapping) and depth < DEPTH_FULL_MAX else 0)
        for name in self._names(schema, place, wanted - len(made)):
            made.setdefault(name, self.value(rest, (*place, name), depth + 1))
        return made

    def _maybe(self, name: str, part: Any, place: Place, depth: int) -> Iterator[tuple[str, Any]]:
        """Give an optional property, unless no value can be made for it."""
        try:
            yield name, self.value(part, (*place, name), depth + 1)
        except ValidationError:
            return

    def _names(self, schema: Schema, place: Place, count: int) -> list[str]:
        if count > 0 and "propertyNames" in schema:
            names = [self.value({"type": "string", **schema["propertyNames"]}, (*place, n), 0) for n in range(count)]
            if len(set(names)) < count:
                raise _none(place, "too few names are allowed")
            return names
        return [f"key_{number + 1}" for number in range(count)]

    def _array(self, schema: Schema, place: Place, depth: int) -> list[Any]:
        first = schema.get("prefixItems") or []
        items = schema.get("items", True)
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        count = ELEMENTS if depth < DEPTH_FULL_MAX and items is not False else 0
        count = int(min(max(least, len(first) if depth < DEPTH_FULL_MAX else 0, count), most))
        made: list[Any] = []
        for number in range(count):
            part = first[number] if number < len(first) else items
            try:
                made.append(self._element(part, made if schema.get("uniqueItems") else [], (*place, number), depth))
            except ValidationError:
                if number < least:
                    raise
                break
        return made

    def _element(self, part: Any, others: list[Any], place: Place, depth: int) -> Any:
        """Give an element that is not among the others."""
        item = self.value(part, place, depth + 1)
        for attempt in range(DIFFERENT_TRIES_MAX):
            if codec.dumps(item) not in map(codec.dumps, others):
                return item
            item = self.value(part, (*place, attempt), depth + 1)
        raise _none(place, "another element, different from the ones before, is not found")

    def _text(self, schema: Schema, place: Place) -> str:
        number = self._number(place)
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        if isinstance(pattern := schema.get("pattern"), str):
            text = matching(pattern, least, most)
            if text is None:
                raise _none(place, f"no text comes to mind for the pattern {pattern!r}; state the value")
            return text
        if (text := _formatted(str(schema.get("format", "")), number)) is not None:
            if len(text) < least or (most is not None and len(text) > most):
                raise _none(place, f"no {schema['format']} has that length")
            return text
        name = next((key for key in reversed(place) if isinstance(key, str)), "text")
        plain = f"{name}-{number % 1000}"
        plain += "x" * (least - len(plain))
        # The end of a shortened text stays, which tells it from its neighbours.
        return plain if most is None else plain[max(len(plain) - int(most), 0) :]

    def _numeral(self, schema: Schema, place: Place, *, whole: bool) -> int | float:
        low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        over, under = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
        step = schema.get("multipleOf") or (1 if whole else None)
        number = float(self._number(place) % NUMBERS)
        least, most = max(low, over), min(high, under)
        if step is not None:
            first = math.ceil(least / step) if math.isfinite(least) else None
            last = math.floor(most / step) if math.isfinite(most) else None
            first = first + 1 if first is not None and first * step <= over else first
            last = last - 1 if last is not None and last * step >= under else last
            chosen = _within(int(number), first, last)
            found: int | float | None = None if chosen is None else chosen * step
        else:
            found = _between(number, least, most)
        if found is None or not (low <= found <= high and over < found < under):
            raise _none(place, "no number is allowed")
        return int(found) if whole else found

    def _number(self, place: Place) -> int:
        """Give a number that depends on the seed and the place alone."""
        text = f"{self._seed}\n{'/'.join(map(str, place))}"
        return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:6])


def _within(number: int, first: int | None, last: int | None) -> int | None:
    """Give the number, put between two others where they are."""
    if first is not None and last is not None:
        return None if first > last else first + number % (last - first + 1)
    if first is not None:
        return first + number
    return number if last is None or number <= last else last - number


def _between(number: float, least: float, most: float) -> float:
    if math.isfinite(least) and math.isfinite(most):
        return least + (most - least) * (number + 1) / (NUMBERS + 1)
    if math.isfinite(least):
        return least + number + 0.5
    return number + 0.5 if not math.isfinite(most) else most - number - 0.5


def _both(one: Schema, other: Any) -> dict[str, Any]:
    """Give a schema that demands what two demand, as far as their words can stand together."""
    if not isinstance(other, Mapping):
        return dict(one) if other is True else {**one, "not": {}}
    whole = {**other, **one}
    if "properties" in one and "properties" in other:
        whole["properties"] = {**other["properties"], **one["properties"]}
    if "required" in one and "required" in other:
        whole["required"] = list(dict.fromkeys((*other["required"], *one["required"])))
    for word in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
        if word in one and word in other:
            whole[word] = max(one[word], other[word])
    for word in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
        if word in one and word in other:
            whole[word] = min(one[word], other[word])
    return whole


def _formatted(name: str, number: int) -> str | None:
    moment = START + timedelta(minutes=number % 100_000)
    digits = hashlib.sha256(str(number).encode()).hexdigest()
    uuid = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"
    made = {
        "date-time": moment.isoformat().replace("+00:00", "Z"),
        "date": moment.date().isoformat(),
        "time": f"{moment:%H:%M:%S}Z",
        "duration": f"PT{number % 60 + 1}M",
        "uuid": uuid,
        "email": f"someone{number % 1000}@example.com",
        "uri": f"https://example.com/{number % 1000}",
        "url": f"https://example.com/{number % 1000}",
        "hostname": f"host{number % 1000}.example.com",
        "ipv4": f"192.0.2.{number % 254 + 1}",
        "ipv6": f"2001:db8::{number % 9999 + 1:x}",
        "json-pointer": f"/{number % 1000}",
        "regex": "a+",
    }
    return made.get(name)


def _none(place: Place, why: str) -> ValidationError:
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).lstrip(".")
    message = f"no value can be made up for {where or 'the schema'}: {why}"
    return ValidationError(message, details={"path": where, "reason": why})
