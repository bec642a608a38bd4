"""The services as the manifests deploy them: their variables, Secrets and probes, on this machine's loopback."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from headrace.client.client import Client
from headrace.dev.embedded import EmbeddedNats, EmbeddedPostgres, free_port
from tests.architecture.test_deploy import DEPLOY, DOCKERFILE, component, every_pod, loaded, manifests, read
from tests.system.kit import ROOT, Command, clean_environment, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

HELLO = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: hello}
spec:
  steps:
    - id: look
      tool: file_glob
      with: {pattern: "*"}
    - id: enough
      gate: {type: expression, expression: "size(steps.look.output.paths) >= 0"}
"""


class Pod:
    """A container of a manifest, started here: what the image and the manifest set, with addresses of this machine."""

    def __init__(
        self, manifest: dict[str, object], folder: Path, secrets: dict[str, dict[str, str]], **here: str
    ) -> None:
        self.name = component(manifest)
        self.port = free_port()
        (container,) = manifest["spec"]["template"]["spec"]["containers"]  # type: ignore[index]  # YAML as it was read
        files = folder / self.name
        (files / "files").mkdir(parents=True)
        (files / "secret").write_text(secrets["headrace-master"]["secret"])
        mounted = {"/etc/headrace/secret": str(files / "secret"), "/files": str(files / "files")}
        (base,) = read(DEPLOY / "k8s/base/kustomization.yaml")
        env = dict(re.findall(r"(HEADRACE_\w+)=(\S+)", DOCKERFILE))
        env |= dict(literal.split("=", 1) for literal in base["configMapGenerator"][0]["literals"])
        env |= secrets[f"headrace-{self.name}"]
        env |= {each["name"]: mounted[each["value"]] for each in container.get("env", [])}
        env |= {"HEADRACE_DATA_DIR": str(files / "data"), "HEADRACE_API_HOST": "127.0.0.1", **here}
        env |= {name: str(self.port) for name in ("HEADRACE_API_PORT", "HEADRACE_HEALTH_PORT")}
        self.env = env
        self.command = Command(files, *("serve", self.name), **env)
        probes = every_pod()["containers"][0]
        self.ready_path = probes["readinessProbe"]["httpGet"]["path"]

    async def ready(self) -> bool:
        """Ask its readiness probe."""
        assert self.command.process.poll() is None, self.command.said
        try:
            async with httpx2.AsyncClient(timeout=5) as http:
                return (await http.get(f"http://127.0.0.1:{self.port}{self.ready_path}")).status_code == 200
        except httpx2.TransportError:
            return False


async def test_the_deployed_services_do_a_run_and_drain_within_their_grace(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres") as postgres, EmbeddedNats(tmp_path / "nats") as nats:
        secrets = loaded(DEPLOY / "k8s/make_secrets.py").secrets("cd" * 32, postgres.url, postgres.url)
        migrated = Command(tmp_path / "migrate", *("db", "migrate"), **secrets["headrace-migrate"])
        assert await migrated.ended(60) == 0, migrated.said
        here = {"HEADRACE_NATS_URL": nats.url, "HEADRACE_API_URL": ""}
        deployments = sorted(manifests("Deployment"), key=lambda manifest: component(manifest) != "api")
        pods: list[Pod] = []
        try:
            for manifest in deployments:
                pods.append(Pod(manifest, tmp_path, secrets, **here))
                here["HEADRACE_API_URL"] = f"http://127.0.0.1:{pods[0].port}"
            for pod in pods:
                await until(pod.ready, f"{pod.name} to be ready", 60)
            planner = next(pod for pod in pods if pod.name == "planner")
            token = await asyncio.to_thread(first_token, planner.env)
            async with Client(here["HEADRACE_API_URL"], token) as client:
                run = await client.create_run(spec=HELLO)
                assert (await asyncio.wait_for(client.until_over(run.id), 60)).status == "succeeded"
        finally:
            for pod in pods:
                pod.command.process.terminate()
            ends = {pod.name: await pod.command.ended(every_pod()["terminationGracePeriodSeconds"]) for pod in pods}
    assert set(ends.values()) == {0}, ends


def first_token(env: dict[str, str]) -> str:
    """Mint the first token as docs/deploy.md says."""
    command = [sys.executable, "-m", "headrace.dev.first_token"]
    told = subprocess.run(command, env=clean_environment(**env), cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert json.dumps(env).count(told.stdout.strip()) == 0
    return told.stdout.strip()
