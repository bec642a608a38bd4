"""A cluster of three NATS servers, which tests start, kill and start again."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from nats.errors import Error as NatsError

from headrace.dev.embedded import free_port, nats_binary
from tests.system.kit import ROOT, until

NODES = 3
TROUBLE = (NatsError, OSError, TimeoutError)
"""What a client meets while servers find each other, choose a leader, or one was just killed."""
PATIENCE_S = 100.0
"""Leaders are chosen, and what was lost on the way is noticed by its owner, at their own pace."""


class Node:
    """One server of a cluster."""

    def __init__(self, folder: Path, name: str, port: int, own: int, routes: list[int]) -> None:
        self.name, self.port, self._folder = name, port, folder
        folder.mkdir()
        listed = ", ".join(f'"nats://127.0.0.1:{each}"' for each in routes)
        (folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:{port}"\nserver_name: {name}\nmax_payload: 8388608\n'
            f'jetstream {{ store_dir: "{folder / "store"}" }}\n'
            f'cluster {{ name: three, listen: "127.0.0.1:{own}", routes: [{listed}] }}\n'
        )
        self.start()

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            command = [nats_binary(), "-c", str(self._folder / "nats.conf")]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[list[Node]]:
    """Start a cluster and wait until it can keep streams three times."""
    ports = [free_port() for _ in range(2 * NODES)]
    nodes: list[Node] = []
    try:
        for number in range(NODES):
            name = f"node_{number + 1}"
            nodes.append(Node(folder / name, name, ports[number], ports[NODES + number], ports[NODES:]))
        await until(lambda: standing(nodes[0]), "the cluster to keep streams", PATIENCE_S)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


async def standing(node: Node) -> bool:
    try:
        other = await nats.connect(node.url, allow_reconnect=False, connect_timeout=1)
        try:
            await other.jetstream().add_stream(name="probe", subjects=["probe"], num_replicas=NODES)
        finally:
            await other.close()
    except TROUBLE:
        return False
    return True


async def answers(node: Node) -> bool:
    try:
        await (await nats.connect(node.url, allow_reconnect=False, connect_timeout=1)).close()
    except TROUBLE:
        return False
    return True
