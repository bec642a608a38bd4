"""Keys of one installation, and the seals made with them (pure).

One master secret makes all keys (HMAC-SHA256 of a label). Only owners (planner, gatekeeper) hold the master; a worker
holds the keys of its pools, the api the keys for commands and blobs. A seal is HMAC-SHA256 (2 µs a message) over the
subject's purpose and the body: a message that nobody with the key made is refused and reported.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from headrace.errors import ForbiddenError, UnauthorizedError

SEAL_BYTES: Final = 32
BLOCK_BYTES: Final = 64
"""The block of SHA-256."""
PADS: Final = (0x36, 0x5C)
"""What RFC 2104 has the key's bytes combined with, in the inner and the outer hash."""
COMMANDS: Final = "commands"
OWNERS: Final = "owners"
BLOBS: Final = "blobs"
POOL: Final = "pool:"
LABEL_CHARS_MAX: Final = 64
"""How much of a label a refusal quotes: whoever sends a message may write anything there."""


class BlobClaim(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a blob token says: which attempt of which workspace may put and get bodies, and until when (ms since 1970).

    It may get what belongs to its workspace, and `digests`: the bodies that its own order names.
    """

    attempt_id: str
    workspace: str
    until: int
    digests: tuple[str, ...] = ()


_claims = msgspec.json.Decoder(BlobClaim)


class Keys(msgspec.Struct, frozen=True):
    """The keys that this process may use: the master, or single ones by label."""

    master: bytes | None = None
    single: dict[str, bytes] = {}

    def key(self, label: str) -> bytes:
        """Give the key of a label; raises ForbiddenError when this process was not given it."""
        known = self.single.get(label)
        if known is not None:
            return known
        if self.master is None:
            message = (
                f"this process holds no key for {label[:LABEL_CHARS_MAX]!r}; set HEADRACE_SECRET_FILE or HEADRACE_KEYS"
            )
            raise ForbiddenError(message)
        return _derived(self.master, label)

    def seal(self, label: str, body: bytes) -> bytes:
        """Put a seal in front of a body."""
        return _mac(self.key(label), body) + body

    def open(self, label: str, sealed: bytes) -> bytes:
        """Give the body of a sealed message; raises UnauthorizedError when the seal is not ours."""
        seal, body = sealed[:SEAL_BYTES], sealed[SEAL_BYTES:]
        if not hmac.compare_digest(_mac(self.key(label), body), seal):
            message = f"the message carries no valid seal for {label[:LABEL_CHARS_MAX]!r}"
            raise UnauthorizedError(message)
        return body

    def pack(self, label: str, body: bytes) -> bytes:
        """Make a sealed message that says under which label it is sealed: `label`, a newline, seal, body."""
        return label.encode() + b"\n" + self.seal(label, body)

    def unpack(self, packed: bytes) -> tuple[str, bytes]:
        """Give the label and body of a packed message; raises UnauthorizedError when its seal is not ours."""
        label, _, sealed = packed.partition(b"\n")
        name = label.decode("ascii", "replace")
        return name, self.open(name, sealed)

    def blob_token(self, attempt_id: str, workspace: str, until_ms: int, digests: Iterable[str] = ()) -> str:
        """Make the token with which one attempt may put and get its workspace's bodies, and get `digests`, until a time."""
        claim = msgspec.json.encode(BlobClaim(attempt_id, workspace, until_ms, tuple(digests)))
        return base64.urlsafe_b64encode(self.seal(BLOBS, claim)).decode()

    def check_blob_token(self, token: str, now_ms: int) -> BlobClaim:
        """Give what a good blob token says; raises UnauthorizedError."""
        try:
            claim = _claims.decode(self.open(BLOBS, base64.b64decode(token.encode(), altchars=b"-_", validate=True)))
        except (UnauthorizedError, msgspec.DecodeError, binascii.Error, UnicodeEncodeError) as problem:
            message = "the blob token is none that was made here"
            raise UnauthorizedError(message) from problem
        if claim.until < now_ms:
            message = "the blob token is over its time"
            raise UnauthorizedError(message)
        return claim


@lru_cache(maxsize=256)
def _derived(master: bytes, label: str) -> bytes:
    return hmac.digest(master, label.encode(), "sha256")


def _mac(key: bytes, body: bytes) -> bytes:
    """Give HMAC-SHA256 (RFC 2104)."""
    begun_inner, begun_outer = _begun(key)
    inner, outer = begun_inner.copy(), begun_outer.copy()
    inner.update(body)
    outer.update(inner.digest())
    digest: bytes = outer.digest()
    return digest


@lru_cache(maxsize=256)
def _begun(key: bytes) -> tuple[Any, Any]:
    """Give both hashes of HMAC with the key in them: `hmac.digest` does this anew for each message, in twice the time."""
    block = (hashlib.sha256(key).digest() if len(key) > BLOCK_BYTES else key).ljust(BLOCK_BYTES, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in PADS)
    return inner, outer


def secret_hash(secret: str) -> str:
    """Give the hash under which an access token's secret is kept (32 random bytes need no slow hash)."""
    return hashlib.sha256(secret.encode()).hexdigest()
