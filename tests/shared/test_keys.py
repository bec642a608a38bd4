"""Seals and tokens: what nobody with the key made is refused, whatever its bytes."""

import pytest

from headrace.errors import ForbiddenError, UnauthorizedError
from headrace.keys import Keys

KEYS = Keys(master=b"m" * 32)


def test_a_blob_token_is_good_until_its_time() -> None:
    token = KEYS.blob_token("att_1", 1_000)
    assert KEYS.check_blob_token(token, 999) == "att_1"
    with pytest.raises(UnauthorizedError):
        KEYS.check_blob_token(token, 1_001)


@pytest.mark.parametrize("token", ["", "a.1", "a.1.é", "a.1.00", "\udcff.1.é".encode("utf-8", "replace").decode()])
def test_a_token_that_nobody_made_is_refused_whatever_its_bytes(token: str) -> None:
    with pytest.raises(UnauthorizedError):
        KEYS.check_blob_token(token, 0)


def test_a_sealed_message_opens_under_its_label_only() -> None:
    packed = KEYS.pack("pool:runner", b"body")
    assert KEYS.unpack(packed) == ("pool:runner", b"body")
    with pytest.raises(UnauthorizedError):
        KEYS.unpack(packed.replace(b"pool:runner", b"pool:gates"))
    with pytest.raises(UnauthorizedError):
        KEYS.unpack(packed + b"x")
    with pytest.raises(ForbiddenError):
        Keys(single={"pool:gates": b"k" * 32}).unpack(packed)
