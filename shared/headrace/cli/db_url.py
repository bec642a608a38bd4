"""Where the database is that commands work on directly."""

from headrace.cli.options import found
from headrace.config import from_env
from headrace.errors import ValidationError


def url() -> str:
    """Find the database: HEADRACE_DATABASE_URL, else that of a running `.headrace`; raises ValidationError."""
    config = from_env()
    known = config.database_url or found("database", config)
    if known is None:
        message = "set HEADRACE_DATABASE_URL, or run where a running .headrace is"
        raise ValidationError(message)
    return known
