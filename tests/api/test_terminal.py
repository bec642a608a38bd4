"""`headrace run` on a terminal of its own: the one who may approve is asked there, and their answer is what happens."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator

from headrace.client.views import Approval
from tests.api.kit import SIGN_OFF, World, step, workflow

QUESTION = "[y/N]"
DEADLINE_S = 30.0
READ_BYTES = 65_536


class Terminal:
    """A command on a pseudo-terminal: what it shows, what is typed."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process, self._master = process, master
        self.shown = ""
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            told = os.read(self._master, READ_BYTES)
        except OSError:  # the other end was closed
            told = b""
        if not told:
            asyncio.get_running_loop().remove_reader(self._master)
        self.shown += told.decode("utf-8", "replace")
        self._more.set()

    async def until(self, text: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while text not in self.shown:
                self._more.clear()
                await self._more.wait()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def code(self) -> int:
        async with asyncio.timeout(DEADLINE_S):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def terminal(world: World, role: str, *arguments: str) -> AsyncIterator[Terminal]:
    master, slave = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "HEADRACE_TOKEN": world.tokens[role]}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.cli.main", *arguments, "--url", world.url,
        stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = Terminal(process, master)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)
        assert "Traceback" not in shown.shown


async def asked_for(world: World, role: str = "operator") -> tuple[str, str]:
    """Let somebody ask for a run that waits for a sign-off; gives the run's id and the key that meets it again."""
    after = {**step("echo", "after"), "depends_on": ["sign_off"]}
    async with world.client(role) as client:
        await client.apply(workflow("w", [SIGN_OFF, after]))
        run = await client.create_run(workflow="w", key="release-1")
    return run.id, "release-1"


async def decided(world: World, run_id: str) -> Approval:
    async with world.client() as client:
        (approval,) = await client.approvals(status=None, run_id=run_id)
        return approval


async def test_an_approver_at_a_terminal_is_asked_and_yes_lets_the_run_go_on(world: World) -> None:
    run_id, key = await asked_for(world)
    async with terminal(world, "admin", "run", "w", "--key", key) as shown:
        await shown.until(QUESTION)
        assert "Go on?" in shown.shown
        approval = await decided(world, run_id)
        assert approval.digest in shown.shown
        shown.type("y\n")
        assert await shown.code() == 0
    approval = await decided(world, run_id)
    assert (approval.status, approval.decisions[0]["name"]) == ("approved", "admin")
    assert world.performed == ["echo"]


async def test_no_rejects_and_the_run_fails(world: World) -> None:
    run_id, key = await asked_for(world)
    async with terminal(world, "admin", "run", "w", "--key", key) as shown:
        await shown.until(QUESTION)
        shown.type("n\n")
        assert await shown.code() == 1
    approval = await decided(world, run_id)
    assert (approval.status, approval.reason) == ("rejected", "rejected at the terminal")
    assert world.performed == []


async def test_neither_enter_nor_ctrl_d_nor_ctrl_c_decides_anything(world: World) -> None:
    run_id, key = await asked_for(world)
    for typed, code in (("\n", 3), ("\x04", 3), (None, 130)):
        async with terminal(world, "admin", "run", "w", "--key", key) as shown:
            await shown.until(QUESTION)
            if typed is None:
                shown.process.send_signal(signal.SIGINT)
            else:
                shown.type(typed)
            assert await shown.code() == code
            assert (f"headrace approvals approve {(await decided(world, run_id)).id}" in shown.shown) == (code == 3)
    approval = await decided(world, run_id)
    assert (approval.status, approval.decisions) == ("pending", [])


async def test_the_requester_is_not_asked(world: World) -> None:
    _, key = await asked_for(world, "admin")
    async with terminal(world, "admin", "run", "w", "--key", key) as shown:
        assert await shown.code() == 3
        assert QUESTION not in shown.shown


async def test_who_has_approved_is_not_asked_again_while_another_must(world: World) -> None:
    two = {"id": "sign_off", "approval": {"roles": ["approver"], "quorum": 2, "prompt": "Go on?"}}
    async with world.client("operator") as client:
        await client.apply(workflow("w", [two]))
        await client.create_run(workflow="w", key="release-2")
    async with terminal(world, "admin", "run", "w", "--key", "release-2") as shown:
        await shown.until(QUESTION)
        shown.type("yes\n")
        assert await shown.code() == 3
    async with terminal(world, "admin", "run", "w", "--key", "release-2") as shown:
        assert await shown.code() == 3
        assert QUESTION not in shown.shown


async def test_an_answer_after_somebody_elses_changes_nothing(world: World) -> None:
    run_id, key = await asked_for(world)
    async with terminal(world, "admin", "run", "w", "--key", key) as shown:
        await shown.until(QUESTION)
        async with world.client("approver") as other:
            await other.decide(await decided(world, run_id), "approve")
        shown.type("n\n")
        assert await shown.code() == 0
    approval = await decided(world, run_id)
    assert (approval.status, [each["name"] for each in approval.decisions]) == ("approved", ["approver"])


async def test_a_pipe_tells_who_decided(world: World) -> None:
    run_id, key = await asked_for(world)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.cli.main", "run", "w", "--key", key, "--wait", "--url", world.url,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "HEADRACE_TOKEN": world.tokens["operator"]},
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        while b"is open" not in await process.stdout.readline():
            pass
        async with world.client("approver") as other:
            await other.decide(await decided(world, run_id), "approve")
        rest = (await process.stdout.read()).decode()
        assert (await process.wait(), "Traceback" in rest) == (0, False), rest
    assert "is approved by approver" in rest
