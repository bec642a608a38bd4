"""A cluster of three NATS servers, which tests start, kill and start again, and trigger events from outside."""

import asyncio
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext

from headrace.client.client import Client
from headrace.dev.embedded import free_port, nats_binary
from tests.system.kit import ROOT, until

NODES = 3
TROUBLE = (NatsError, OSError, TimeoutError)
"""What a client meets while servers find each other, choose a leader, or one was just killed."""
PATIENCE_S = 100.0
"""Leaders are chosen, and what was lost on the way is noticed by its owner, at their own pace."""
TRIGGERED = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: triggered}
spec:
  triggers:
    - {type: event, event: go}
  steps:
    - id: files
      tool: file_glob
      with: {pattern: "*.toml"}
    - id: told
      transform: "{{ size(steps.files.output.paths) > 0 ? trigger.number : -1 }}"
  outputs: "{{ steps.told.output }}"
"""


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


@asynccontextmanager
async def outside(urls: list[str]) -> AsyncIterator[JetStreamContext]:
    """Connect as somebody who publishes trigger events does."""
    connection = await nats.connect(urls, max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=quietly)
    try:
        yield connection.jetstream()
    finally:
        await connection.close()


async def quietly(_: Exception) -> None:
    """Say nothing of trouble that is meant."""


async def publish(js: JetStreamContext, number: int) -> None:
    """Publish a trigger event until it is acknowledged, as clients do."""
    data = json.dumps({"number": number}).encode()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await js.publish("headrace.trigger.go", data, headers={"Nats-Msg-Id": f"go {number}"}, timeout=2)
            except TROUBLE:
                await asyncio.sleep(0.2)
            else:
                return


async def started(client: Client) -> Counter[int]:
    """Count the finished runs of each trigger event by its number."""
    rows = [row async for row in client.pages("/runs", workflow="triggered", limit=100)]
    results = [await client.result(row["id"]) for row in rows if row["status"] == "succeeded"]
    assert all(row["status"] != "failed" for row in rows), rows
    return Counter(result["outputs"] for result in results)
