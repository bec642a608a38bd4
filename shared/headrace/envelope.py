"""The base of everything that travels on the bus (pure)."""

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Anything on the bus. It is made of what JSON says, so that nothing in it leads back to it (`gc=False`)."""
