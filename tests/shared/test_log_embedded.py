"""Embedded servers and the leash that ends them with us."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import psutil
import pytest

from headrace.dev.embedded import EmbeddedNats, EmbeddedPostgres, free_port
from headrace.dev.leash import Leash
from headrace.dev.stack import port_before
from headrace.errors import UnavailableError

ENV = {"PATH": os.environ["PATH"]}
GONE_S = 20.0
HOLDER = """
import signal, sys
from headrace.dev.leash import Leash
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it, and children inherit that
leash = Leash([sys.executable, "-c", {child!r}], env={{}})
print(leash.pid, flush=True)
sys.stdin.read()
"""
SLEEPER = "import time; time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_child_on_a_leash_ends_with_us_however_we_end(number: signal.Signals) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(child=SLEEPER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    child = psutil.Process(int(holder.stdout.readline()))
    leash = child.parent()
    assert leash is not None
    os.killpg(holder.pid, number)
    holder.wait(GONE_S)
    holder.stdout.close()
    holder.stdin.close()
    gone, alive = psutil.wait_procs([child, leash], timeout=GONE_S)
    assert alive == []
    assert len(gone) == 2


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    stop = ((signal.SIGTERM, 0.2), (signal.SIGKILL, 5.0))
    with (tmp_path / "out").open("wb") as output:
        leash = Leash([sys.executable, "-c", STUBBORN], env=ENV, output=output, stop=stop)
    child = psutil.Process(leash.pid)
    while not (tmp_path / "out").read_bytes():
        assert leash.running
    assert leash.stop() == 128 + signal.SIGKILL
    assert not child.is_running()


def test_a_leash_tells_how_its_child_ended_and_what_could_not_start() -> None:
    leash = Leash([sys.executable, "-c", "raise SystemExit(7)"], env=ENV)
    assert leash.wait(GONE_S) == 7
    assert not leash.running
    assert leash.stop() == 7
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        Leash(["/no-such-program"], env=ENV)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets timers be late")
def test_the_timers_of_a_child_on_a_leash_may_be_as_late_as_it_says(tmp_path: Path) -> None:
    look = "print(open('/proc/self/timerslack_ns').read())"
    with (tmp_path / "out").open("wb") as output:
        leash = Leash([sys.executable, "-c", look], env=ENV, output=output, slack_ns=1_234_000)
        assert leash.wait(GONE_S) == 0
    assert (tmp_path / "out").read_text().split() == ["1234000"]


def test_ctrl_c_in_our_terminal_does_not_reach_the_child() -> None:
    leash = Leash([sys.executable, "-c", SLEEPER], env=ENV)
    assert os.getsid(leash.pid) != os.getsid(0)
    assert os.getpgid(leash.pid) != os.getpgid(0)
    assert leash.kill() == 128 + signal.SIGKILL


async def test_postgres_keeps_its_data_over_stop_and_kill_below_a_folder_that_is_closed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    closed = tmp_path_factory.mktemp("short") / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "postgres").start()
    try:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("show fsync") == "on"
        await connection.execute("create table kept (n int); insert into kept values (1)")
        await connection.close()
        port = server.port
        server.stop()
        server.start()
        server.kill()
        server.start()
        assert server.port == port
        assert (closed / "postgres" / "password").stat().st_mode & 0o077 == 0
        for url, told in ((server.url, server.port), (server.local_url, None)):
            connection = await asyncpg.connect(url)
            assert await connection.fetchval("select n from kept") == 1
            assert await connection.fetchval("select inet_server_port()") == told
            await connection.close()
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(url.replace("headrace:", "headrace:wrong", 1))
        with pytest.raises(UnavailableError, match="already runs"):
            EmbeddedPostgres(closed / "postgres").start()
    finally:
        server.stop()


def test_stale_locks_of_another_process_do_not_keep_postgres_from_starting(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as server:
        pass
    data = tmp_path / "postgres" / "data"
    for lock in ("postmaster.pid", f".s.PGSQL.{server.port}.lock"):
        (data / lock).write_text(f"{os.getpid()}\n{tmp_path}\n")
    with server:
        assert psutil.pid_exists(server.pid)


def test_postgres_has_no_socket_in_a_folder_whose_path_is_too_long_for_one(tmp_path: Path) -> None:
    far = EmbeddedPostgres(tmp_path / ("far" * 30))
    with far:
        assert far.local_url == far.url


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path / "one") as server:
        for taken in (EmbeddedNats(tmp_path / "two", server.port), EmbeddedPostgres(tmp_path / "three", server.port)):
            with pytest.raises(UnavailableError, match=f"port {server.port} on 127.0.0.1 is taken"):
                taken.start()


def test_a_free_port_is_none_that_the_kernel_gives_to_a_connection() -> None:
    ports = [free_port() for _ in range(20)]
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        given = one.getsockname()[1]
    assert len(set(ports)) > 1
    assert max(ports) < 32_768 <= given


def test_nats_is_killed_wiped_and_started_again_on_its_port(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats", free_port()).start()
    port, first = server.port, server.pid
    assert "sync_interval: always" in (tmp_path / "nats" / "nats.conf").read_text()
    server.kill()
    assert not psutil.pid_exists(first)
    server.wipe()
    assert not (tmp_path / "nats" / "store").exists()
    server.start()
    assert server.port == port
    assert server.pid != first
    server.stop()


def test_a_nats_server_is_found_where_it_was_unless_somebody_else_is_there_now(tmp_path: Path) -> None:
    assert port_before(tmp_path / "nats") == 0
    with EmbeddedNats(tmp_path / "nats") as server:
        port = server.port
        assert port_before(tmp_path / "nats") == 0  # it is taken
    with EmbeddedNats(tmp_path / "nats", port_before(tmp_path / "nats")) as again:
        assert again.port == port
