"""Access tokens as text: `hr_<26 characters of the token's id>_<secret>` (pure)."""

import base64
import hmac
from typing import Final

import msgspec

from headrace import ids
from headrace.errors import UnauthorizedError

PREFIX: Final = "hr_"
SECRET_BYTES: Final = 32
ID_END: Final = len(PREFIX) + ids.SUFFIX_CHARS


class NewToken(msgspec.Struct, frozen=True):
    """A token just made: its id, its secret, and both as the text that a caller sends."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        """Give what goes into `Authorization: Bearer …`."""
        return f"{PREFIX}{self.id.removeprefix(ids.TOKEN + '_')}_{self.secret}"


def mint(entropy: bytes) -> NewToken:
    """Make a token from at least 48 bytes of entropy. Its id is one of the catalogue: of no month, in partition 0."""
    needed = SECRET_BYTES + 16
    if len(entropy) < needed:
        message = f"a token needs {needed} bytes of entropy, not {len(entropy)}"
        raise ValueError(message)
    token_id = ids.make(ids.TOKEN, ids.TIMELESS_MS, entropy[SECRET_BYTES:], 0)
    return NewToken(token_id, _text(entropy[:SECRET_BYTES]))


def derive(key: bytes, *parts: str) -> NewToken:
    """Make the token that the same key and parts always give, so that a repeated request meets the same token."""
    told = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return mint(
        hmac.digest(key, b"token secret\x1f" + told, "sha256") + hmac.digest(key, b"token id\x1f" + told, "sha256")
    )


def parse(text: str) -> tuple[str, str]:
    """Read a token's text as id and secret; raises UnauthorizedError, never quoting it."""
    if not text.startswith(PREFIX) or len(text) <= ID_END + 1 or text[ID_END] != "_":
        message = "the access token is not of the form hr_<id>_<secret>"
        raise UnauthorizedError(message)
    return f"{ids.TOKEN}_{text[len(PREFIX) : ID_END]}", text[ID_END + 1 :]


def _text(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
