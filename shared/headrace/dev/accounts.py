"""Running a server as an ordinary user when we are root, also below a folder that is closed to others."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final

from headrace.errors import UnavailableError

SYSTEM_USERS: Final = ("postgres", "nobody", "daemon")
ENVIRONMENT: Final = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def ordinary_account() -> pwd.struct_passwd | None:
    """Give the ordinary user that PostgreSQL, which refuses root, runs as; None when we are one ourselves."""
    if os.geteuid() != 0:
        return None
    known = {one.pw_name: one for one in pwd.getpwall()}
    found = next((known[name] for name in SYSTEM_USERS if name in known), None)
    if found is None:
        message = f"PostgreSQL refuses to run as root and none of {', '.join(SYSTEM_USERS)} exists; run as another user"
        raise UnavailableError(message)
    return found


def dropping(account: pwd.struct_passwd, binary: Path, home: Path) -> list[str]:
    """Give the command prefix that runs as `account` and reaches both places, also below a folder closed to others."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        message = "starting PostgreSQL as root needs `setpriv` (util-linux); install it, or run as an ordinary user"
        raise UnavailableError(message)
    plain = [setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    reaching = [*plain, "--securebits=+no_setuid_fixup", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    for prefix in (plain, reaching):
        if all(_works([*prefix, *command]) for command in (["test", "-x", str(binary)], ["test", "-x", str(home)])):
            return prefix
    message = (
        f"user {account.pw_name}, as whom PostgreSQL runs here because it refuses root, cannot reach {home} or {binary}; "
        "open the folders above to others (chmod o+x), or run as an ordinary user, or set HEADRACE_DATABASE_URL"
    )
    raise UnavailableError(message)


def _works(command: list[str]) -> bool:
    done = subprocess.run(command, env=ENVIRONMENT, cwd="/", capture_output=True, check=False, timeout=10)
    return done.returncode == 0
