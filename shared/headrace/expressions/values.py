"""What CEL gives, as plain JSON values (pure)."""

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace import codec
from headrace.expressions import library
from headrace.expressions.functions import type_name
from headrace.expressions.series import whole


def plain(value: Any) -> Any:
    """Give a CEL result as JSON: keys of maps are texts in sorted order, timestamps RFC 3339 in UTC, durations seconds.

    Bytes become base64. Raises ValueError for NaN and for what JSON cannot say.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isnan(value):
                message = "the result is not a number (NaN)"
                raise ValueError(message)
            return value
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            items = {_key(key): item for key, item in value.items()}
            return {key: plain(items[key]) for key in sorted(items)}
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return f"{value.total_seconds():g}s"
        case bytes():
            return base64.b64encode(value).decode()
        case library.optional():
            return plain(value.value()) if value.has_value() else None
        case _:
            message = f"the result is no JSON value but {type_name(value)}"
            raise ValueError(message)


def _key(key: Any) -> str:
    match key:
        case str():
            return key
        case bool():
            return "true" if key else "false"
        case _:
            return str(key)


def given(value: Any) -> Any:
    """Give a recorded value in the form CEL takes: mappings of other make become dicts, series become lists."""
    if type(value) in codec.HARMLESS or isinstance(value, dict):
        return value
    return dict(value) if isinstance(value, Mapping) else whole(value)
