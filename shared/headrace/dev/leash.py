"""A leash: a child process that never outlives us, however we end (standard library only: it also runs as a script).

Between us and the child stands a tiny process that holds the read end of a pipe. The pipe closes when we stop, exit or
are killed; then the leash sends the child its stop signals, one after the other with a grace for each. Both run in a
session of their own, so that Ctrl-C in a terminal reaches only us.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

GRACE_S: Final = 30.0
EXIT_SIGNAL_BASE: Final = 128
TIMER_SLACK: Final = Path("/proc/self/timerslack_ns")
"""Where Linux lets a thread say how late its timers may be; what it starts inherits that."""
STOP_SERVICE: Final = ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, 5.0))
STOP_POSTGRES: Final = ((signal.SIGINT, 8.0), (signal.SIGQUIT, 4.0), (signal.SIGKILL, 4.0))


class Leash:
    """A child on a leash. `pid` is the child's own."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        output: IO[bytes] | None = None,
        cwd: str | Path | None = None,
        stop: Sequence[tuple[signal.Signals, float]] = STOP_SERVICE,
        slack_ns: int = 0,
    ) -> None:
        """Start `command`; its stdout and stderr go to `output`, else to our stderr. Raises FileNotFoundError.

        `slack_ns`: how late its timers may be, where the kernel can be told; 0 leaves them as they are.
        """
        reader, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(
                leashed(command, stop, slack_ns),
                stdin=reader,
                stdout=subprocess.PIPE,
                stderr=output,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(reader)
        assert self._process.stdout is not None
        with self._process.stdout as report:
            said = report.readline().strip()
        if not said.isdigit():
            self.stop()
            raise FileNotFoundError(said.decode(errors="replace") or f"cannot start {command[0]}")
        self.pid = int(said)

    @property
    def running(self) -> bool:
        """Tell whether the child still runs."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Give how the child ended, 128 + n for signal n, or None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until the child has ended; raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """Let go of the pipe, so that the leash stops the child, and wait for both."""
        self.let_go()
        return self._process.wait()

    def let_go(self) -> None:
        """Begin to stop the child, without waiting."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def send(self, number: signal.Signals) -> None:
        """Send the child a signal, if it still runs."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> int:
        """End the child with SIGKILL, as a crash would."""
        self.send(signal.SIGKILL)
        return self.stop()


def leashed(
    command: Sequence[str | Path], stop: Sequence[tuple[signal.Signals, float]] = STOP_SERVICE, slack_ns: int = 0
) -> list[str]:
    """Give the command that runs `command` on a leash, for a caller with process handling of its own.

    Its stdin must be a pipe that the caller holds open; its first line on stdout is the child's process id; what the
    child prints goes to its stderr.
    """
    signals = ",".join(f"{number.value}:{grace}" for number, grace in stop)
    return [sys.executable, "-I", "-S", __file__, f"{signals};{slack_ns}", *map(str, command)]


def main(arguments: Sequence[str]) -> int:
    """Hold a child: `signal:seconds,…;slack command …`; says the child's pid on stdout, ends with its exit code."""
    signals, _, slack_ns = arguments[0].partition(";")
    stop = [(int(number), float(grace)) for number, _, grace in (part.partition(":") for part in signals.split(","))]
    if int(slack_ns):
        with contextlib.suppress(OSError):  # a kernel without it wakes the child more often, and that is all
            TIMER_SLACK.write_text(slack_ns)
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for heard in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(heard, lambda *_: None)  # heard but not obeyed; the child starts with defaults again
    try:
        child = subprocess.Popen(arguments[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr)
    except OSError as problem:
        os.write(1, f"cannot start {arguments[1]}: {problem}\n".encode())
        return 127
    os.write(1, f"{child.pid}\n".encode())
    os.close(1)
    _hold(child, awake, stop)
    code = child.wait()
    return code if code >= 0 else EXIT_SIGNAL_BASE - code


def _hold(child: subprocess.Popen[bytes], awake: int, stop: Sequence[tuple[int, float]]) -> None:
    """Wait for the child's end or for ours; then stop it, each signal with its grace."""
    while child.poll() is None:
        ready, _, _ = select.select([0, awake], [], [])
        if awake in ready:
            os.read(awake, 512)
        if 0 in ready and not os.read(0, 512):
            break
    for number, grace in stop:
        if child.poll() is not None:
            return
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
