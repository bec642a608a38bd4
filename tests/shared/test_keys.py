"""Seals and tokens: what nobody with the key made is refused, whatever its bytes."""

import base64
import hmac

import pytest

from headrace.client import tokens
from headrace.errors import ForbiddenError, UnauthorizedError
from headrace.keys import BLOBS, BlobClaim, Keys

KEYS = Keys(master=b"m" * 32)


def test_a_blob_token_is_good_until_its_time() -> None:
    token = KEYS.blob_token("att_1", "a.b é", 1_000, ["sha256:1"])
    assert KEYS.check_blob_token(token, 999) == BlobClaim("att_1", "a.b é", 1_000, ("sha256:1",))
    with pytest.raises(UnauthorizedError):
        KEYS.check_blob_token(token, 1_001)


@pytest.mark.parametrize("token", ["", "a.1", "a.1.é", "a.1.00", "\udcff.1.é".encode("utf-8", "replace").decode()])
def test_a_token_that_nobody_made_is_refused_whatever_its_bytes(token: str) -> None:
    with pytest.raises(UnauthorizedError):
        KEYS.check_blob_token(token, 0)


def test_a_blob_token_cannot_be_made_to_say_something_else() -> None:
    token = KEYS.blob_token("att_1", "mine", 1_000)
    claim = base64.urlsafe_b64decode(token)
    moved = base64.urlsafe_b64encode(claim.replace(b"mine", b"ours")).decode()
    sealed_elsewhere = base64.urlsafe_b64encode(KEYS.seal("commands", claim[32:])).decode()
    no_claim = base64.urlsafe_b64encode(KEYS.seal(BLOBS, b"{}")).decode()
    for bad in (moved, sealed_elsewhere, no_claim, token[:-4], token + "AAAA", f"att_1.1000.{'0' * 64}"):
        with pytest.raises(UnauthorizedError):
            KEYS.check_blob_token(bad, 0)


def test_a_sealed_message_opens_under_its_label_only() -> None:
    packed = KEYS.pack("pool:runner", b"body")
    assert KEYS.unpack(packed) == ("pool:runner", b"body")
    with pytest.raises(UnauthorizedError):
        KEYS.unpack(packed.replace(b"pool:runner", b"pool:gates"))
    with pytest.raises(UnauthorizedError):
        KEYS.unpack(packed + b"x")
    with pytest.raises(ForbiddenError):
        Keys(single={"pool:gates": b"k" * 32}).unpack(packed)


def test_a_refusal_quotes_little_of_what_a_stranger_wrote() -> None:
    for keys in (KEYS, Keys()):
        with pytest.raises((UnauthorizedError, ForbiddenError), match="'xxx") as refusal:
            keys.unpack(b"x" * 2_000_000)
        assert len(refusal.value.message) < 300


@pytest.mark.parametrize("key", [b"k" * 32, b"short", b"l" * 64, b"longer than a block of SHA-256 " * 4])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 5_000])
def test_a_seal_is_the_hmac_sha256_that_everybody_computes(key: bytes, size: int) -> None:
    body = bytes(range(256)) * 20
    seal = Keys(single={"pool:gates": key}).seal("pool:gates", body[:size])[:32]
    assert seal == hmac.digest(key, body[:size], "sha256")


# --- access tokens -----------------------------------------------------------------------------------------------


def test_a_token_says_its_id_and_its_secret_and_the_same_request_meets_the_same_one() -> None:
    token = tokens.derive(b"k" * 32, "default", "tok_ann", "key-1")
    assert tokens.parse(token.text) == (token.id, token.secret)
    assert token.id.startswith("tok_")
    assert tokens.derive(b"k" * 32, "default", "tok_ann", "key-1") == token
    for key, parts in ((b"o" * 32, ("default", "tok_ann", "key-1")), (b"k" * 32, ("default", "tok_annkey-1"))):
        other = tokens.derive(key, *parts)
        assert other.id != token.id
        assert other.secret != token.secret
    entropy = bytes(range(48))
    minted = tokens.mint(entropy)
    assert tokens.parse(minted.text) == (minted.id, minted.secret)
    with pytest.raises(ValueError, match="48 bytes"):
        tokens.mint(entropy[:47])


def test_what_is_no_token_is_refused_and_not_quoted() -> None:
    good = tokens.mint(bytes(48)).text
    end = tokens.ID_END
    for bad in ("", "hr_", "s3cr3t", f"xx_{good[3:]}", good[: end + 1], good[:end], f"{good[:end]}-{good[end + 1 :]}"):
        with pytest.raises(UnauthorizedError) as caught:
            tokens.parse(bad)
        assert not bad or bad not in caught.value.message.replace("hr_<id>_<secret>", "")
