"""What each service is started with: a command and an environment that holds its own keys and no others.

Owners are given the file of the installation's secret; the api the keys of commands and blobs, and those that beats are
sealed with; a worker the key of its pool alone. Only integrations sees the user's environment, because references such
as `env:GITHUB_TOKEN` are resolved there and nowhere else.
"""

import sys
from pathlib import Path
from typing import Final

import msgspec

from headrace.config import Config
from headrace.keys import BLOBS, COMMANDS, POOL, Keys
from headrace.vocabulary import POOL_GATES, POOL_INTEGRATIONS, POOL_RUNNER

OWNERS: Final = frozenset({"planner", "gatekeeper"})
API: Final = "api"
INTEGRATIONS: Final = "integrations"
POOLS: Final = (POOL_RUNNER, POOL_GATES, POOL_INTEGRATIONS)
PLAIN: Final = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What every child inherits where it is set."""
WITHHELD: Final = frozenset({"HEADRACE_SECRET", "HEADRACE_SECRET_FILE", "HEADRACE_KEYS", "HEADRACE_TOKEN"})


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts of one installation are: its servers, its secret, its api."""

    database_url: str
    nats_url: str
    secret_file: Path
    keys: Keys
    incarnation: str


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """A child to start: its name, command and environment, and the port on which it says whether it is ready."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str]
    ready_port: int


def service(name: str, config: Config, place: Place, inherited: dict[str, str], health_port: int) -> Program:
    """Say how a service is started."""
    env = {
        **_inherited(name, inherited),
        **_common(config, place),
        **_rights(name, place),
        "HEADRACE_HEALTH_PORT": str(health_port),
    }
    command = (sys.executable, "-m", "headrace.cli.main", "serve", name)
    return Program(name=name, command=command, env=env, ready_port=config.api_port if name == API else health_port)


def _inherited(name: str, inherited: dict[str, str]) -> dict[str, str]:
    if name == INTEGRATIONS:
        return {key: value for key, value in inherited.items() if key not in WITHHELD}
    return {key: inherited[key] for key in PLAIN if key in inherited}


def _common(config: Config, place: Place) -> dict[str, str]:
    return {
        "HEADRACE_NATS_URL": place.nats_url,
        "HEADRACE_NATS_REPLICAS": str(config.nats_replicas or ""),
        "HEADRACE_DATA_DIR": str(config.data_dir.absolute()),
        "HEADRACE_API_HOST": config.api_host,
        "HEADRACE_API_PORT": str(config.api_port),
        "HEADRACE_API_URL": config.base_url,
        "HEADRACE_FILE_ROOT": str(config.file_root.absolute()),
        "HEADRACE_WORKSPACE": config.workspace,
        "HEADRACE_LOG_LEVEL": config.log_level,
        "HEADRACE_RETENTION_MONTHS": str(config.retention_months),
        "HEADRACE_UNFINISHED_RUNS_MAX": str(config.unfinished_runs_max),
        "HEADRACE_ALLOW_PRIVATE_ADDRESSES": "1" if config.allow_private_addresses else "",
        "MAX_CONCURRENT": str(config.slots or ""),
    }


def _rights(name: str, place: Place) -> dict[str, str]:
    """Give the database to those who may open it, and to each its keys."""
    if name in OWNERS:
        return {"HEADRACE_DATABASE_URL": place.database_url, "HEADRACE_SECRET_FILE": str(place.secret_file)}
    if name == API:
        keys = _keys(place.keys, COMMANDS, BLOBS, *(POOL + pool for pool in POOLS))
        return {"HEADRACE_DATABASE_URL": place.database_url, "HEADRACE_KEYS": keys}
    keys = _keys(place.keys, POOL + name)
    return {"HEADRACE_DATABASE_URL": "", "HEADRACE_INCARNATION": place.incarnation, "HEADRACE_KEYS": keys}


def _keys(keys: Keys, *labels: str) -> str:
    return ",".join(f"{label}={keys.key(label).hex()}" for label in labels)
