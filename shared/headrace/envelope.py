"""The base of everything that travels on the bus (pure)."""

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Anything on the bus."""
