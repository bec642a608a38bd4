"""Orders as they arrive: believed only when the pool's key sealed them and they are what they say."""

from typing import Final

import msgspec

from headrace import codec
from headrace.errors import ForbiddenError, HeadraceError, UnauthorizedError
from headrace.keys import POOL, Keys
from headrace.wire import WorkOrder

SEAL: Final = "seal"
MALFORMED: Final = "malformed"
OTHER_POOL: Final = "other_pool"
ARGUMENTS: Final = "arguments"

_decoder = msgspec.json.Decoder(WorkOrder)


class RefusedOrderError(HeadraceError):
    """A message that asks for work and is not to be believed; `why` is one word for the metric."""

    type = "unauthorized"

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


def read(packed: bytes, pool: str, keys: Keys) -> WorkOrder:
    """Give the order of a message; raises RefusedOrderError when it is forged, altered, or for another pool."""
    try:
        label, body = keys.unpack(packed)
    except (UnauthorizedError, ForbiddenError) as problem:
        raise RefusedOrderError(SEAL, problem.message) from problem
    if label != POOL + pool:
        message = f"sealed for {label!r}, found in the pool {pool!r}"
        raise RefusedOrderError(OTHER_POOL, message)
    try:
        order = _decoder.decode(body)
    except msgspec.DecodeError as problem:
        message = f"sealed, but no work order: {problem}"
        raise RefusedOrderError(MALFORMED, message) from problem
    if order.pool != pool:
        message = f"an order for the pool {order.pool!r}, found in {pool!r}"
        raise RefusedOrderError(OTHER_POOL, message)
    if order.arguments_blob is None and codec.sha256(order.arguments) != order.arguments_digest:
        message = f"attempt {order.attempt_id}: the arguments are not those the order was made for"
        raise RefusedOrderError(ARGUMENTS, message)
    return order
