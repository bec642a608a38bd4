"""Configuration, read once from the environment: the only reader of it."""

import os
from pathlib import Path
from typing import Final

import msgspec

from headrace.errors import ValidationError
from headrace.keys import Keys
from headrace.vocabulary import UNFINISHED_RUNS_MAX, WORKSPACE_DEFAULT

API_PORT_DEFAULT: Final = 8374
SECRET_BYTES_MIN: Final = 32
NATS_REPLICAS: Final = (1, 3, 5)
"""What a cluster of NATS can keep of a stream: two or four copies survive no more than one or three."""
RETENTION_MONTHS_DEFAULT: Final = 12
"""How many whole months before this one stay attached to the log; 0 keeps all."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a process needs to know. Unset URLs mean embedded servers where a command starts them, else an error."""

    database_url: str | None = None
    nats_url: str | None = None
    nats_replicas: int = 0
    """How many servers of a NATS cluster keep each stream; 0: three in a cluster, one elsewhere."""
    data_dir: Path = Path(".headrace")
    api_host: str = "127.0.0.1"
    api_port: int = API_PORT_DEFAULT
    api_url: str | None = None
    health_port: int = 0
    file_root: Path = Path()
    workspace: str = WORKSPACE_DEFAULT
    keys: Keys = Keys()
    slots: int = 0
    token: str | None = None
    log_level: str = "info"
    allow_private_addresses: bool = False
    pools: tuple[str, ...] = ()
    unfinished_runs_max: int = UNFINISHED_RUNS_MAX
    incarnation: str | None = None
    """The database that a process without one works for; else it is learnt from NATS."""
    retention_months: int = RETENTION_MONTHS_DEFAULT

    @property
    def base_url(self) -> str:
        """Give the address of the api."""
        return self.api_url or f"http://{self.api_host}:{self.api_port}"


def from_env() -> Config:
    """Read the process's environment; raises ValidationError naming the variable that is wrong."""
    return read(dict(os.environ))


def environment() -> dict[str, str]:
    """Give a copy of the process's environment, for those who build a child's."""
    return dict(os.environ)


def read(env: dict[str, str]) -> Config:
    """Read a configuration from a mapping of environment variables; raises ValidationError naming the wrong one."""
    data_dir = Path(env.get("HEADRACE_DATA_DIR", ".headrace"))
    return Config(
        database_url=env.get("HEADRACE_DATABASE_URL") or None,
        nats_url=env.get("HEADRACE_NATS_URL") or None,
        nats_replicas=_replicas(env),
        data_dir=data_dir,
        api_host=env.get("HEADRACE_API_HOST", "127.0.0.1"),
        api_port=_number(env, "HEADRACE_API_PORT", API_PORT_DEFAULT),
        api_url=address(env["HEADRACE_API_URL"], "HEADRACE_API_URL") if env.get("HEADRACE_API_URL") else None,
        health_port=_number(env, "HEADRACE_HEALTH_PORT", 0),
        file_root=Path(env.get("HEADRACE_FILE_ROOT", ".")),
        workspace=env.get("HEADRACE_WORKSPACE", WORKSPACE_DEFAULT),
        keys=_keys(env, data_dir),
        slots=_number(env, "MAX_CONCURRENT", os.cpu_count() or 1),
        token=env.get("HEADRACE_TOKEN") or None,
        log_level=env.get("HEADRACE_LOG_LEVEL", "info"),
        allow_private_addresses=env.get("HEADRACE_ALLOW_PRIVATE_ADDRESSES", "") in {"1", "true", "yes"},
        unfinished_runs_max=_number(env, "HEADRACE_UNFINISHED_RUNS_MAX", UNFINISHED_RUNS_MAX),
        pools=tuple(filter(None, env.get("HEADRACE_POOLS", "").split(","))),
        incarnation=env.get("HEADRACE_INCARNATION") or None,
        retention_months=_number(env, "HEADRACE_RETENTION_MONTHS", RETENTION_MONTHS_DEFAULT),
    )


def variable(name: str) -> str | None:
    """Read one variable now: for references to secrets (`env:NAME`), which are never kept in a configuration."""
    return os.environ.get(name)


def address(text: str, what: str) -> str:
    """Read where the api is, whether or not `/api` follows; `what` is what says it. Raises ValidationError naming it."""
    url = text.strip().rstrip("/")
    scheme, _, rest = url.partition("://")
    if scheme in {"http", "https"} and rest and not rest.startswith(("/", ":")):
        host, _, path = rest.partition("/")
        below = "" if path == "api" else path.removesuffix("/api")
        return f"{scheme}://{host}/{below}".rstrip("/")
    meant = f"http://{url}" if url and "://" not in text else f"http://127.0.0.1:{API_PORT_DEFAULT}"
    message = f"{what} must be an address with http:// or https://, such as {meant}, not {text!r}"
    raise ValidationError(message)


def _number(env: dict[str, str], name: str, default: int) -> int:
    text = env.get(name, "")
    if not text:
        return default
    if not text.isdigit():
        message = f"{name} must be a whole number, not {text!r}"
        raise ValidationError(message)
    return int(text)


def _replicas(env: dict[str, str]) -> int:
    replicas = _number(env, "HEADRACE_NATS_REPLICAS", 0)
    if replicas not in {0, *NATS_REPLICAS}:
        message = f"HEADRACE_NATS_REPLICAS must be one of {', '.join(map(str, NATS_REPLICAS))}, not {replicas}"
        raise ValidationError(message)
    return replicas


def _keys(env: dict[str, str], data_dir: Path) -> Keys:
    """Read keys: HEADRACE_KEYS is `label=hex,label=hex` and stands alone; else the master of HEADRACE_SECRET_FILE."""
    given = env.get("HEADRACE_KEYS", "")
    if given:
        return Keys(single={label: _hex("HEADRACE_KEYS", value) for label, _, value in _pairs(given)})
    if env.get("HEADRACE_SECRET"):
        return Keys(master=_hex("HEADRACE_SECRET", env["HEADRACE_SECRET"]))
    path = Path(env.get("HEADRACE_SECRET_FILE", data_dir / "secret"))
    if path.is_file():
        return Keys(master=_hex(str(path), path.read_text().strip()))
    return Keys()


def _pairs(given: str) -> list[tuple[str, str, str]]:
    return [part.strip().partition("=") for part in given.split(",") if part.strip()]


def _hex(name: str, value: str) -> bytes:
    try:
        secret = bytes.fromhex(value)
    except ValueError:
        secret = b""
    if len(secret) < SECRET_BYTES_MIN:
        message = (
            f"{name} must be at least {SECRET_BYTES_MIN} bytes as hex digits (make one with `openssl rand -hex 32`)"
        )
        raise ValidationError(message)
    return secret
