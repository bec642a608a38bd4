"""What is wrong with a request's body, path or query, in words of JSON: each problem with its field and what is expected."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from headrace import codec, errors
from headrace.expressions.near import meant

PLACES: Final = frozenset({"body", "query", "path", "header"})
TEXTS: Final = frozenset({"query", "path", "header"})
"""Where all values are texts, which are shown as they came; of a body's only the type is, since it may hold secrets."""
WANTED: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "list_type": "an array",
}
BOUNDS: Final = {
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "greater_than": ("more than", "gt"),
    "less_than": ("less than", "lt"),
}
COMPOSED: Final = ("dict[", "list[")
"""How the library names those of several types that hold others, behind the field's own place."""
NO_OBJECT: Final = "the body must be a JSON object, sent with Content-Type: application/json"
NO_JSON: Final = "the body must be JSON, sent with Content-Type: application/json"
NOT_READ: Final = "invalid-json-value"
"""How the library calls a body that may be any JSON and came as another type, so that it was not read as JSON."""

Found = Mapping[str, Any]


def of_validation(problems: Sequence[Found]) -> errors.HeadraceError:
    """Say what is wrong with a request, all of it together; the type is missing_argument when nothing else is wrong."""
    broken = next((problem for problem in problems if problem.get("type") == "json_invalid"), None)
    if broken is not None:
        offset = broken["loc"][-1] if broken.get("loc") else 0
        reason = (broken.get("ctx") or {}).get("error", "not JSON")
        message = f"the body is not JSON: {reason} at character {offset}"
        return errors.ValidationError(message, details={"position": offset})
    told = list(_told(problems))
    message = "; ".join(f"{field}: {said}" if field else said for field, said, _ in told)
    details = {"problems": [{"field": field, "message": said} for field, said, _ in told]}
    if told and all(field and kind == "missing" for field, _, kind in told):
        return errors.MissingArgumentError(message, details=details)
    return errors.ValidationError(message, details=details)


def _told(problems: Sequence[Found]) -> Iterator[tuple[str, str, str]]:
    """Give field, sentence and kind of each problem; what may be one of several things is one problem."""
    places = [_place(problem) for problem in problems]
    choices = dict.fromkeys(place[:-1] for place in places if place and place[-1].startswith(COMPOSED))
    for place in choices:
        wanted = [
            WANTED[str(each["type"])] for each in problems if _place(each)[:-1] == place and each["type"] in WANTED
        ]
        given = next(each.get("input") for each in problems if _place(each)[:-1] == place)
        yield ".".join(place[1:]), f"must be {' or '.join(wanted)}, not {codec.type_of(given)}", "choice"
    for problem in problems:
        place = _place(problem)
        if place[:-1] in choices:
            continue
        where, field = (place[0], place[1:]) if place and place[0] in PLACES else ("", place)
        yield ".".join(field), _sentence(problem, field, where), str(problem.get("type"))


def _place(problem: Found) -> tuple[str, ...]:
    return tuple(str(part) for part in problem.get("loc", ()))


def _sentence(problem: Found, field: tuple[str, ...], where: str) -> str:
    kind, given, about = str(problem.get("type")), problem.get("input"), problem.get("ctx") or {}
    if kind == "missing":
        return "is required" if field else "the request needs a body: a JSON object"
    if kind == "model_attributes_type" or (kind == "dict_type" and not field):
        return NO_OBJECT
    if kind == NOT_READ and not field:
        return NO_JSON
    if kind == "string_unicode":
        return "must be Unicode text: it holds half of a surrogate pair (U+D800 to U+DFFF)"
    if kind in WANTED:
        shown = repr(given) if where in TEXTS or kind == "int_from_float" else codec.type_of(given)
        return f"must be {WANTED[kind]}, not {shown}"
    if kind in BOUNDS:
        words, name = BOUNDS[kind]
        return f"must be {words} {about.get(name)}, not {given!r}"
    if kind in {"enum", "literal_error"}:
        return _one_of(str(about.get("expected", "")), given)
    if kind in {"too_short", "string_too_short"}:
        least = about.get("min_length", 1)
        return "must not be empty" if least == 1 else f"must hold at least {least}"
    if kind in {"too_long", "string_too_long"}:
        what = "characters" if kind == "string_too_long" else "entries"
        return f"may hold {about.get('max_length')} {what} at most"
    return str(problem.get("msg", "is not valid")).removeprefix("Value error, ")


def _one_of(expected: str, given: Any) -> str:
    known = [word.strip().strip("'") for word in expected.replace(" or ", ", ").split(",")]
    slip = meant(given, known) if isinstance(given, str) else ""
    return f"must be one of {', '.join(known)}, not {given!r}{slip}"
