"""What a PostgreSQL server leaves in its data folder when it is killed, and where its socket lies there."""

import subprocess
from pathlib import Path
from typing import Final
from urllib.parse import quote

from headrace.errors import UnavailableError

SOCKET: Final = ".s.PGSQL."
SOCKET_PATH_BYTES_MAX: Final = 107
"""The longest path of a Unix socket that the kernel takes."""
PORT_DIGITS_MAX: Final = 5


def takes_socket(data: Path) -> bool:
    """Tell whether a data folder can hold the server's Unix socket: its path is short enough, and can be said."""
    longest = len(bytes(data)) + len(f"/{SOCKET}") + PORT_DIGITS_MAX
    return longest <= SOCKET_PATH_BYTES_MAX and '"' not in str(data)


def place(data: Path, port: int) -> str:
    """Give the part of a URL that says which socket: the query behind the database's name."""
    return f"host={quote(str(data), safe='')}&port={port}"


def clear(data: Path) -> None:
    """Remove lock file and socket of a server that is gone; raises UnavailableError when that server still runs."""
    lock = data / "postmaster.pid"
    try:
        pid = int(lock.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        pid = None
    if pid is not None:
        if str(data) in _command_of(pid):
            message = f"PostgreSQL already runs on {data} as process {pid}; stop it first (kill -INT {pid})"
            raise UnavailableError(message)
        lock.unlink(missing_ok=True)
    for left in data.glob(f"{SOCKET}*"):
        left.unlink(missing_ok=True)


def _command_of(pid: int) -> str:
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False, timeout=5)
    return shown.stdout.decode(errors="replace")
