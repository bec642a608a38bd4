"""A real nats-server whose disk was full once: what the log can say again heals by itself; the triggers are reported."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from headrace.bus import subjects
from headrace.bus.connection import Connection
from headrace.bus.jetstream import JetStreamBus
from headrace.bus.port import Delivery
from headrace.bus.writes import Patience
from headrace.clock import SystemClock
from headrace.dev.embedded import EmbeddedNats
from headrace.errors import UnavailableError
from tests.contracts.bus_worlds import until, until_async

DISK_BYTES = 3 << 30
"""As much as all streams together may take; no more memory is taken than is written."""
LEFT_BYTES = 64 << 10
LARGE = b"x" * 100_000
TRIES = 8
QUICK = Patience(stuck_s=3.0, look_every_s=0.5, probe_s=1.0)
WITHIN_S = 70.0


class SmallDisk:
    """A tmpfs that can be filled: shrunk to what is on it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

    def mount(self, options: str, size: int) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", f"{options},size={size}", "headrace-test", str(self.folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def fill(self) -> bool:
        """Shrink it; what is written just then may need it larger, and it is tried again."""
        return any(self.mount("remount", shutil.disk_usage(self.folder).used + LEFT_BYTES) for _ in range(TRIES))

    def free(self) -> bool:
        return self.mount("remount", DISK_BYTES)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Give a small disk; without the right to mount one there is nothing to prove here."""
    made = SmallDisk(tmp_path / "disk")
    if os.geteuid() != 0 or not made.mount("mode=755", DISK_BYTES):
        pytest.skip("a small tmpfs that fills needs root and the right to mount")
    yield made
    subprocess.run(["umount", "-l", str(made.folder)], check=False, capture_output=True)


async def fill_streams(bus: JetStreamBus) -> None:
    """Write to every kind of stream until none takes more."""
    for _ in range(TRIES):
        bus.publish_work("runner", LARGE)
        bus.publish_feed("runs", LARGE)
    for name in (
        bus.names.inbox("runs", 0),
        subjects.trigger("order"),
        bus.names.work("runner"),
        subjects.feed("runs"),
    ):
        for _ in range(TRIES):
            try:
                await bus.connection.ask(name, LARGE, 0.3)
            except UnavailableError:
                break
        else:
            pytest.fail(f"{name} still takes writes: the disk is not full")


async def test_streams_that_refuse_writes_after_a_full_disk_are_made_anew_and_the_triggers_reported(
    disk: SmallDisk,
) -> None:
    server = EmbeddedNats(disk.folder).start()
    owner = await JetStreamBus.connect(server.url, "full-disk", SystemClock())
    other = await JetStreamBus.connect(server.url, "full-disk", SystemClock())
    owner.guardian.writes.patience = other.guardian.writes.patience = QUICK
    told: list[bytes] = []
    orders: list[bytes] = []
    try:
        await owner.open_inbox("runs", 0, 1, lambda each: told.append(each.data))
        work = await other.open_work("runner", lambda each: orders.append(each.data))
        work.want(1_000)
        await owner.tell("runs", 0, b"before")
        await until(lambda: told == [b"before"])

        assert disk.fill()
        await fill_streams(owner)
        assert disk.free()
        with pytest.raises(UnavailableError):
            await other.tell("runs", 0, b"in vain")  # there is room again, and it is refused all the same

        async def is_told() -> bool:
            try:
                await other.tell("runs", 0, b"after")
            except UnavailableError:
                return False
            return b"after" in told

        await _within(is_told)

        async def reported() -> bool:
            return owner.refusing == other.refusing == (subjects.TRIGGER_STREAM,)

        async def well() -> bool:
            return owner.refusing == other.refusing == ()

        async def is_ordered() -> bool:
            owner.publish_work("runner", b"ordered after")
            return b"ordered after" in orders

        await _within(is_ordered)
        await _within(reported)
        assert owner.guardian.writes.remade + other.guardian.writes.remade >= 3
        assert not any(each.startswith(b'{"headrace"') for each in (*told, *orders)), "nobody sees what only tried"

        server.kill()
        server.start()  # the remedy
        await _within(well)
        assert (await owner.publish_trigger("order", b"{}")).sequence > 0
    finally:
        await owner.close()
        await other.close()
        server.stop()


async def test_a_stream_of_triggers_to_which_only_others_write_is_reported_too(disk: SmallDisk) -> None:
    server = EmbeddedNats(disk.folder).start()
    owner = await JetStreamBus.connect(server.url, "full-disk", SystemClock())
    client = Connection(server.url, SystemClock(), name="somebody")
    owner.guardian.writes.patience = QUICK
    try:
        await client.open()
        await client.wait()
        assert disk.fill()

        async def reported() -> bool:
            client.send(subjects.trigger("order"), LARGE)
            return owner.refusing == (subjects.TRIGGER_STREAM,)

        await _within(
            reported
        )  # the server says of no write when it was tried: one after the disk has room again would be kept
        assert disk.free()
        with pytest.raises(UnavailableError):
            await client.ask(subjects.trigger("order"), b"{}", 1.0)
        assert await reported(), "there is room again, and it is refused all the same"
    finally:
        await client.close()
        await owner.close()
        server.stop()


async def test_what_only_tries_a_stream_is_settled_and_nobody_sees_it(nats_url: str) -> None:
    bus = await JetStreamBus.connect(nats_url, "probing", SystemClock())
    told: list[Delivery] = []
    events: list[str] = []

    async def heard(event: Delivery) -> None:
        events.append(event.subject)

    try:
        inbox = await bus.open_inbox("runs", 1, 1, told.append)
        await bus.open_triggers(heard)
        await bus.tell("runs", 1, b"first")
        await until(lambda: len(told) == 1)
        writes = bus.guardian.writes
        writes.suspect(bus.names.inbox_stream("runs", 1))
        writes.suspect(subjects.TRIGGER_STREAM)
        stream = bus.names.inbox_stream("runs", 1)

        async def probed() -> bool:
            info = await bus.connection.api(subjects.api("STREAM.INFO", stream))
            return int(info["state"]["last_seq"]) == 2

        await until_async(probed)
        inbox.settle(told[0].sequence)

        async def settled() -> bool:
            info = await bus.connection.api(subjects.api("CONSUMER.INFO", stream, subjects.epoch_consumer(1)))
            return int(info["ack_floor"]["stream_seq"]) == 2

        await until_async(settled)
        await bus.publish_trigger("seen", b"{}")
        await until(lambda: "seen" in events)
        assert len(told) == 1
        assert "headrace_probe" not in events
        assert bus.refusing == ()
        assert writes.remade == 0
    finally:
        await bus.close()


async def _within(ask: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so that takes its time: the guardian looks for a while before it believes."""
    async with asyncio.timeout(WITHIN_S):
        while not await ask():  # noqa: ASYNC110  (a server says nothing of itself)
            await asyncio.sleep(0.2)
