"""The data folder of an installation on one machine: its lock, its secret, its token, and where its servers are.

`.headrace/` (0700) holds `secret` and `token` (0600), `lock`, `logs/` and the data of the embedded servers; and
while it runs `api`, `database` and `nats.url` (0600): their URLs, for commands such as `headrace db verify`.
"""

import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import IO, Final

import msgspec

from headrace.errors import ConflictError
from headrace.keys import Keys

LOCK: Final = "lock"
API: Final = "api"
DATABASE: Final = "database"
NATS: Final = "nats.url"
SECRET_BYTES: Final = 32
PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700


class Servers(msgspec.Struct, frozen=True):
    """Where a running installation's servers are."""

    database_url: str
    nats_url: str


class Home:
    """A data folder. `lock` makes it ours; nobody else may then use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.logs = self.folder / "logs"
        self.secret_file = self.folder / "secret"
        self.token_file = self.folder / "token"
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Make the folder and take it; raises ConflictError naming the process that has it."""
        self.folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        self.folder.chmod(PRIVATE_FOLDER)
        file = (self.folder / LOCK).open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            message = f"headrace already runs on {self.folder} (process {holder}); stop it, or set HEADRACE_DATA_DIR"
            raise ConflictError(message) from problem
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._lock = file
        self.logs.mkdir(exist_ok=True)

    def clear(self) -> None:
        """Throw everything in the folder away but the lock that we hold."""
        for each in self.folder.iterdir():
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.name != LOCK:
                each.unlink()
        self.logs.mkdir()

    def unlock(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def keys(self) -> Keys:
        """Give the installation's keys, from a secret that is made once."""
        if not self.secret_file.is_file():
            write_private(self.secret_file, secrets.token_hex(SECRET_BYTES) + "\n")
        return Keys(master=bytes.fromhex(self.secret_file.read_text().strip()))

    def token(self) -> str | None:
        """Give the first token's text, if there is one."""
        return self.token_file.read_text().strip() if self.token_file.is_file() else None

    def tell(self, api_url: str, servers: Servers) -> None:
        """Write down where the api and the servers are."""
        told = {API: api_url, DATABASE: servers.database_url, NATS: servers.nats_url}
        for name, url in told.items():
            write_private(self.folder / name, url + "\n")

    def untell(self) -> None:
        """Take back what `tell` wrote: nothing runs any more."""
        for name in (API, DATABASE, NATS):
            (self.folder / name).unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    half = path.with_name(path.name + ".half")
    half.unlink(missing_ok=True)
    handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    half.replace(path)
