"""A stream with nothing to tell says that it stands: in virtual time, over an engine in one process."""

from itertools import pairwise

from headrace.bus.memory import MemoryBus
from headrace.client.tokens import mint
from headrace.keys import secret_hash
from headrace.messages import CreateToken
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from headrace.vocabulary import LOG_CATALOGUE
from headrace_api import streaming
from headrace_api.admission import Caller
from headrace_api.asking import let_in
from headrace_api.desk import Desk
from headrace_api.feed import REPAIR_S

BUSY = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: busy}
spec:
  steps:
    - id: again
      loop: {while: "iteration < 60", steps: [nap]}
    - id: nap
      wait: 1s
"""
WAITING = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: waiting}
spec:
  steps:
    - id: nap
      wait: 60s
"""


async def desk_of(engine: Engine) -> tuple[Desk, Caller]:
    """Give an api's working parts over an engine, and a caller whose token stands."""
    bus = MemoryBus(engine.clock, engine.broker)
    desk = Desk(engine.log, bus, engine.keys, engine.clock)
    for way in desk.feed.ways(bus):
        await way()
    made = mint(engine.clock.entropy() * 3)
    create = CreateToken(token_id=made.id, name="eve", roles=("viewer",), secret_hash=secret_hash(made.secret))
    await engine.ask(LOG_CATALOGUE, create, stream=made.id, as_="root")
    return desk, await desk.tokens.caller(made.text, None)


async def spoken(document: str, what: str) -> tuple[list[float], list[bytes]]:
    """Follow a run's lines or events; gives when something was said, in virtual seconds, and what."""
    async with Engine(workers=False) as engine:
        desk, caller = await desk_of(engine)
        asked = let_in(desk, caller, None, "", reading=True)
        run = await engine.run(document)
        frames = streaming.lines(asked, run.id, None) if what == "lines" else streaming.events(asked, run.id, 0)
        said = [(engine.clock.monotonic(), each) async for each in frames]
    return [at for at, _ in said], [each for _, each in said]


@in_virtual_time
async def test_lines_of_a_run_in_which_much_happens_and_that_prints_nothing_beat() -> None:
    at, said = await spoken(BUSY, "lines")
    assert said.count(b": heartbeat\n\n") >= 3
    assert max(after - before for before, after in pairwise(at)) < streaming.HEARTBEAT_S + streaming.LINES_REPAIR_S
    assert b"event: complete" in said[-1]


@in_virtual_time
async def test_lines_and_events_of_a_run_that_waits_beat() -> None:
    for what in ("lines", "events"):
        at, said = await spoken(WAITING, what)
        assert 3 <= said.count(b": heartbeat\n\n") <= 4
        assert max(after - before for before, after in pairwise(at)) <= streaming.HEARTBEAT_S + REPAIR_S
        assert b"event: complete" in said[-1]
