"""How each kind of fault is done, and whether it really happened."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from headrace.errors import HeadraceError
from tests.chaos.bus_faults import BusFaults
from tests.chaos.proxy import Link, Way
from tests.chaos.schedule import Fault
from tests.chaos.stand import Server, Stand

LOOK_S: Final = 0.05
BACK_S: Final = 60.0
DRAINED_S: Final = 45.0
RESET_BYTES_MAX: Final = 4_000
SLOW_S: Final = 0.08
SLOW_BYTES_PER_S: Final = 200_000.0
RECOVERY_TRIES: Final = 8
JUMPS_S: Final = (7_200, -3_600, 45, -20)
CRASH_COUNT_MAX: Final = 6
Done = Awaitable[bool]


class Faults:
    """Does a schedule's faults at their times. `fired` counts what really happened, `skipped` says what could not."""

    def __init__(self, stand: Stand, bus: BusFaults) -> None:
        self._stand, self._bus = stand, bus
        self.fired: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}
        self._ways: dict[str, Callable[[Fault], Done]] = {
            "kill": self._kill,
            "crash": self._crash,
            "pause": self._pause,
            "stop": self._stop,
            "nats": self._nats,
            "postgres": self._postgres,
            "stream": bus.streams,
            "consumer": bus.streams,
            "duplicates": bus.duplicates,
            "poison": bus.poison,
            "oversized": bus.oversized,
            "clock": self._clock_jump,
        }

    def possible(self, kind: str) -> bool:
        """Tell whether a kind can be done here; notes the reason when it cannot."""
        stand = self._stand
        if kind.endswith("disk full") and not all(disk.own for disk in stand.disks.values()):
            self.skipped[kind] = "a small tmpfs needs root and the right to mount"
        elif kind == "clock jump" and stand.faketime is None:
            self.skipped[kind] = "libfaketime is not installed (Debian: libfaketime)"
        return kind not in self.skipped

    async def storm(self, faults: list[Fault]) -> None:
        """Do every fault at its time, and those that did not come to pass once more; come back when all is over."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._at_its_time(fault))
        for fault in faults:
            if not self.fired[fault.kind]:
                await self._do(fault)

    async def _at_its_time(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        await self._do(fault)

    async def _do(self, fault: Fault) -> None:
        began = self._stand.clock.monotonic()
        happened = await self._ways[fault.kind.partition(" ")[0]](fault)
        self.fired[fault.kind] += happened
        spent = self._stand.clock.monotonic() - began
        told = "" if happened else "  (it did not come to that)"
        self._stand.say(f"  {fault.at:6.1f} s  {fault.kind} {fault.target} ({spent:.1f} s){told}")

    # programs

    async def _kill(self, fault: Fault) -> bool:
        pid = self._stand.send(fault.target, signal.SIGKILL)
        return pid is not None and await self._gone(fault.target, pid, BACK_S)

    async def _crash(self, fault: Fault) -> bool:
        """Arm a crash point until the process has died there; one that died of something else is armed again."""
        stand, point = self._stand, fault.kind.partition(" ")[2]
        place: Path = stand.folder / fault.target
        fallen = place.with_suffix(".crashed")
        fallen.unlink(missing_ok=True)
        until, count = stand.clock.monotonic() + fault.seconds, 1 + fault.number % CRASH_COUNT_MAX
        while not fallen.is_file() and stand.clock.monotonic() < until:
            with suppress(TimeoutError):
                await stand.until_ready(fault.target, fault.seconds)
            pid = stand.pid(fault.target)
            _replace(place.with_suffix(".crash"), f"{point} {count}")
            if pid is not None and stand.send(fault.target, signal.SIGUSR2) == pid:
                await self._gone(fault.target, pid, until - stand.clock.monotonic())
        if not fallen.is_file():
            _replace(place.with_suffix(".crash"), "none 1")
            stand.send(fault.target, signal.SIGUSR2)
        return fallen.is_file()

    async def _pause(self, fault: Fault) -> bool:
        pid = self._stand.send(fault.target, signal.SIGSTOP)
        if pid is None:
            return False
        await asyncio.sleep(fault.seconds)
        return self._stand.send(fault.target, signal.SIGCONT) == pid

    async def _stop(self, fault: Fault) -> bool:
        """Stop a program in order, as a rolling change does: it drains, and another takes its place."""
        with suppress(TimeoutError):
            await self._stand.until_ready(fault.target, BACK_S)
        pid = self._stand.send(fault.target, signal.SIGTERM)
        return pid is not None and await self._gone(fault.target, pid, DRAINED_S)

    async def _gone(self, name: str, pid: int, within_s: float) -> bool:
        """Wait until another process has taken a program's place."""
        until = self._stand.clock.monotonic() + within_s
        while self._stand.clock.monotonic() < until:
            if self._stand.pid(name) not in {pid, None}:
                return True
            await asyncio.sleep(LOOK_S)
        return False

    # servers

    async def _nats(self, fault: Fault) -> bool:
        server = self._stand.servers["nats"]
        what = fault.kind.removeprefix("nats ")
        if what.startswith("link"):
            return await self._link(fault, what, self._stand.links[f"{fault.target} nats"])
        async with server.turn:
            match what:
                case "paused":
                    os.kill(server.embedded.pid, signal.SIGSTOP)
                    await asyncio.sleep(fault.seconds)
                    os.kill(server.embedded.pid, signal.SIGCONT)
                case "disk full":
                    return await self._disk_full(server, fault.seconds)
                case _:
                    await server.kill()
                    if what == "wiped":
                        await asyncio.to_thread(self._stand.nats.wipe)
                    await asyncio.sleep(fault.seconds)
                    await server.start()
        return True

    async def _postgres(self, fault: Fault) -> bool:
        server = self._stand.servers["postgres"]
        what = fault.kind.removeprefix("postgres ")
        if what.startswith("link") or what == "answer lost":
            return await self._link(fault, what, self._stand.links[f"{fault.target} postgres"])
        async with server.turn:
            if what == "disk full":
                return await self._disk_full(server, fault.seconds)
            await server.kill()
            await asyncio.sleep(fault.seconds)
            cut_short = 0
            if what == "killed in recovery":
                cut_short = await self._in_recovery(server)
            await server.start()
        return what == "killed" or cut_short > 0

    async def _in_recovery(self, server: Server) -> int:
        """Start Postgres and kill it before it is ready, until that succeeded once; gives how often it did."""
        lock = self._stand.folder / "postgres" / "data" / "postmaster.pid"
        for attempt in range(RECOVERY_TRIES):
            before = lock.read_text() if lock.is_file() else ""
            async with asyncio.TaskGroup() as group:
                starting = group.create_task(self._starts(server))
                while not starting.done():
                    with suppress(OSError, ValueError):
                        now = lock.read_text()
                        if now and now != before:
                            await asyncio.sleep(0.005 * attempt)
                            os.kill(int(now.split("\n", 1)[0]), signal.SIGKILL)
                            break
                    await asyncio.sleep(0.001)
            if not starting.result():
                return 1
            await server.kill()
        return 0

    async def _starts(self, server: Server) -> bool:
        """Start once, and tell whether it came up."""
        try:
            await asyncio.to_thread(server.embedded.start)
        except HeadraceError:
            return False
        return True

    async def _disk_full(self, server: Server, seconds: float) -> bool:
        """Fill a server's disk for a while. NATS is restarted then, as its operator has to (nats-server 2.15).

        It refuses every later write to a stream whose write failed once, also when there is room again.
        """
        disk = self._stand.disks[server.name]
        happened = await asyncio.to_thread(disk.fill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(disk.free)
        if server.name == "nats" or not server.alive:
            await server.kill()
            await server.start()
        return happened

    # links

    async def _link(self, fault: Fault, what: str, link: Link) -> bool:
        if what == "answer lost":
            return await link.lose_answer(fault.seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(BACK_S):
                await link.used()
        carried, there = link.carried, link.connections
        match what:
            case "link cut":
                link.refuse()
                await asyncio.sleep(fault.seconds)
                happened = there > 0
            case "link reset":
                link.reset_after(fault.number % RESET_BYTES_MAX)
                await asyncio.sleep(fault.seconds)
                happened = not link.resets_soon
            case "link slow":
                link.slow(SLOW_S, SLOW_BYTES_PER_S)
                await asyncio.sleep(fault.seconds)
                happened = link.carried > carried
            case "link held":
                link.hold(Way.UP, Way.DOWN)
                await asyncio.sleep(fault.seconds)
                happened = there > 0
            case _:
                link.hold(Way.UP if fault.number % 2 else Way.DOWN)
                await asyncio.sleep(fault.seconds)
                happened = there > 0
        link.heal()
        if fault.number % 3 == 0:
            link.cut()  # what was held back is lost, instead of late
        return happened

    async def _clock_jump(self, fault: Fault) -> bool:
        """Let one planner's wall clock jump, and stay there until the storm is over."""
        with suppress(TimeoutError):
            await self._stand.until_ready(fault.target, BACK_S)
        self._stand.clock_file.write_text(f"{JUMPS_S[fault.number % len(JUMPS_S)]:+d}\n")
        await asyncio.sleep(2.0)
        return self._stand.pid(fault.target) is not None


def _replace(place: Path, text: str) -> None:
    """Write a file that a process may be reading: it sees the old text or the new one."""
    fresh = place.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.replace(place)
