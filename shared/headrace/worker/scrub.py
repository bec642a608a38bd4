"""Keeps secrets out of everything that leaves a worker: lines, errors, results, artifacts (pure)."""

from collections.abc import Iterable
from typing import Any, Final

from headrace.errors import REDACTED


class Scrubber:
    """Replaces the very secrets that an attempt was given, wherever they turn up."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if secret}
        self._secrets = sorted(known, key=len, reverse=True) if known else []

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def text(self, text: str) -> str:
        """Give a text without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text

    def body(self, body: bytes) -> bytes:
        """Give bytes without the secrets."""
        for secret in self._secrets:
            body = body.replace(secret.encode(), REDACTED.encode())
        return body

    def value(self, value: Any) -> Any:
        """Give a JSON value without the secrets, in keys too."""
        if not self._secrets:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


NO_SECRETS: Final = Scrubber(())
