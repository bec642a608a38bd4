"""W3: one run whose 1,000 steps are all ready at once, and a join."""

import statistics
import time
from typing import Final

from benchmarks.caller import Caller
from benchmarks.stand import TOOL, Figures, Stand, workflow

STEPS: Final = 1_000
ROUNDS: Final = 5
WAIT_S: Final = 60


async def fan_out(stand: Stand, scale: int) -> Figures:
    """W3: a map of 1,000 items, each dispatched on its own, and a step that counts their results."""
    steps = max(STEPS // scale, 10)
    each = {"id": "each", "map": "{{ inputs.items }}", "tool": TOOL, "with": {"n": "{{ item }}"}}
    count = {"id": "count", "transform": "{{ size(steps.each.output) }}"}
    spec = workflow("wide", [each, count], inputs={"items": {"type": "array"}}, outputs="{{ steps.count.output }}")
    digest = (await stand.client.record_plan(spec))["digest"]
    taken = []
    async with Caller(stand.url, stand.token, 1) as caller:
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            asked = {"plan_digest": digest, "inputs": {"items": list(range(steps))}}
            run = await caller.post("/runs", asked, wait_s=WAIT_S)
            taken.append(time.perf_counter() - began)
            assert run["status"] == "succeeded", run
            assert (await caller.get(f"/runs/{run['id']}/result"))["outputs"] == steps
    return {"secs": statistics.median(taken[1:]), "best": min(taken[1:]), "steps": steps, "rounds": ROUNDS}
