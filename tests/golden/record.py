"""Records golden histories: `python -m tests.golden.record` tells each story to the engine, in virtual time.

A history that is there stays as it is; what histories fold to is written again.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import headrace
from headrace import codec
from headrace.errors import StepError
from headrace.events.runs import WriteClaimed
from headrace.log.port import Recorded
from headrace.messages import CreateRun, LoseAttempt
from headrace.ports.tool import ToolContext
from headrace.steering import PauseRun, ResumeRun, SettleOutcome, SignalRun
from headrace.testing import virtual
from headrace.testing.engine import Engine
from headrace.vocabulary import LOG_CATALOGUE, LOG_PARTITIONS, LOG_RUNS
from tests.golden.histories import HISTORIES, About, Happened, History, folded, names, read, state_file, write
from tests.tour.kit import workflow

READ_MAX = 100_000


@headrace.tool(pool="golden")
async def greet(name: str, context: ToolContext) -> dict[str, str]:
    """Say hello to everybody but Bob."""
    if name == "Bob":
        message = "not to Bob"
        raise StepError(message, type="upstream_error")
    return {"text": f"Hello {name}"}


@headrace.tool(pool="golden", effect="write")
async def send(text: str, context: ToolContext) -> dict[str, str]:
    """Send a letter."""
    context.artifact("file", "letter", "letter.txt", body=text.encode())
    return {"sent": text}


@headrace.tool(pool="golden", rate_limit="2/1m")
async def ask(name: str) -> dict[str, str]:
    """Ask somebody who answers twice a minute."""
    return {"said": f"I am {name}"}


@headrace.tool(pool="golden", effect="notify", access="auto")
async def post(text: str, context: ToolContext) -> dict[str, str]:
    """Put up a notice, which takes a while and cannot be taken back."""
    await asyncio.sleep(20)
    return {"posted": text}


@headrace.tool(pool="golden", effect="write", access="auto", idempotent=True)
async def pay(amount: int, context: ToolContext) -> dict[str, int]:
    """Pay, which takes too long the first time and is refused the second."""
    paid = context.root / context.run_id
    if not paid.exists():
        paid.touch()
        await asyncio.sleep(60)
    message = "refused"
    raise StepError(message, type="upstream_error")


ASK = {"id": "ask", "approval": {"roles": ["approver"], "prompt": "Send it?"}}
SEND = {"id": "send", "depends_on": ["ask"], "tool": "send", "with": {"text": "{{ inputs.text }}"}}
LETTER = workflow("letter", ASK, SEND, inputs={"text": {"type": "string", "default": "Dear all"}})


async def chain(engine: Engine) -> None:
    first = {"id": "one", "tool": "greet", "with": {"name": "Ada"}}
    second = {"id": "two", "transform": {"size": "{{ size(steps.one.output.text) }}"}}
    choose = {"id": "choose", "condition": {"expression": "true", "then": ["yes"], "else": ["no"]}}
    yes, no = ({"id": name, "depends_on": ["choose"], "transform": {"said": name}} for name in ("yes", "no"))
    document = workflow("chain", first, second, choose, yes, no)
    await engine.apply(document)
    await (await engine.run("chain")).result()


async def mapped(engine: Engine) -> None:
    step = {"id": "each", "map": "{{ inputs.names }}", "tool": "greet", "with": {"name": "{{ item }}"}}
    document = workflow(
        "mapped", {**step, "retry": {"max_attempts": 2, "backoff": "5s"}}, inputs={"names": {"type": "array"}}
    )
    await (await engine.run(document, {"names": ["Ada", "Cleo"]})).until("succeeded")
    await (await engine.run(document, {"names": ["Ada", "Bob"]})).until("failed")


async def together(engine: Engine) -> None:
    step = {"id": "each", "map": "{{ inputs.names }}", "tool": "greet", "with": {"name": "{{ item }}"}}
    names = [f"Ada {number}" for number in range(12)]
    document = workflow("together", {**step, "on_item_error": "collect"}, inputs={"names": {"type": "array"}})
    await (await engine.run(document, {"names": [*names[:6], "Bob", *names[6:]]})).until("succeeded")


async def gated(engine: Engine) -> None:
    gate = {"type": "expression", "expression": "inputs.size > 3", "failure_message": "too small"}
    document = workflow("gated", {"id": "check", "gate": gate}, inputs={"size": {"type": "integer"}})
    await (await engine.run(document, {"size": 5})).until("succeeded")
    await (await engine.run(document, {"size": 2})).until("failed")


async def approved(engine: Engine) -> None:
    run = await engine.run(LETTER)
    await engine.approve(run, "ask", reason="fine")
    await run.until("succeeded")
    await asyncio.sleep(5)


async def rejected(engine: Engine) -> None:
    run = await engine.run(LETTER)
    await engine.reject(run, "ask", reason="too long")
    await run.until("failed")
    await asyncio.sleep(5)


async def expired(engine: Engine) -> None:
    run = await engine.run(LETTER)
    await engine.pass_time("8d")
    await run.until("failed")


async def timer(engine: Engine) -> None:
    await engine.run(workflow("timer", {"id": "night", "wait": {"timer": "1d"}}))
    await engine.pass_time("2d")


async def waiting(engine: Engine) -> None:
    await (await engine.run(workflow("waiting", {"id": "night", "wait": {"timer": "1d"}}))).until("waiting")
    await (await engine.run(LETTER)).until("waiting")
    await asyncio.sleep(1)


async def cancelled(engine: Engine) -> None:
    run = await engine.run(LETTER)
    await run.until("waiting")
    await engine.cancel(run, "not needed any more")
    await run.until("cancelled")
    await asyncio.sleep(5)


async def authorized(engine: Engine) -> None:
    document = {
        **workflow("authorized", {"id": "send", "tool": "send", "with": {"text": "Dear you"}}),
        "kind": "ToolPlan",
    }
    await engine.authorize(document)
    await (await engine.run(document)).until("succeeded")
    await asyncio.sleep(5)


async def connected(engine: Engine) -> None:
    await engine.connect("github", {"base_url": "https://api.github.com"}, {"token": "env:GITHUB_TOKEN"})


async def shared(engine: Engine) -> None:
    step = {"id": "each", "map": "{{ inputs.names }}", "tool": "ask", "with": {"name": "{{ item }}"}}
    inputs = {"names": {"type": "array"}}
    document = workflow("shared", step, inputs=inputs, concurrency={"key": "{{ size(inputs.names) }}"}, priority=5)
    runs = [await engine.run(document, {"names": ["Ada", "Bob", "Cleo"]}) for _ in range(3)]
    await engine.cancel(runs[1], "not needed any more")
    await runs[2].until("succeeded", seconds=600)
    replacing = workflow("replacing", ASK, concurrency={"key": "replaced", "on_conflict": "replace"})
    await (await engine.run(replacing)).until("waiting")
    await (await engine.run(replacing)).until("waiting")
    await asyncio.sleep(5)


async def steered(engine: Engine) -> None:
    put_up = {
        "id": "post",
        "tool": "post",
        "with": {"text": "{{ inputs.text }}"},
        "timeout": {"queue": "5m", "step": "10m"},
    }
    done = {
        "id": "done",
        "depends_on": ["post"],
        "transform": "{{ steps.post.output.posted }} for {{ inputs.days }} days",
    }
    inputs = {"text": {"type": "string", "default": "Lost: a cat"}, "days": {"type": "integer", "default": 7}}
    run = await engine.run(workflow("steered", put_up, done, inputs=inputs))
    await asyncio.sleep(5)
    claim = next(event for event in run.history if isinstance(event, WriteClaimed))
    lost = LoseAttempt(step="post", attempt=1, attempt_id=claim.attempt_id, worker=claim.worker)
    await engine.ask(LOG_RUNS, lost, stream=run.id)
    await engine.ask(LOG_RUNS, PauseRun(reason="somebody looks"), stream=run.id)
    answer = SettleOutcome(step="post", answer="not_happened", reason="the wall is bare")
    await engine.ask(LOG_RUNS, answer, stream=run.id)
    await engine.ask(LOG_RUNS, ResumeRun(), stream=run.id)
    await run.until("succeeded")
    given = codec.raw({"text": "Lost: a cat", "days": 14})
    again = CreateRun(plan_digest=run.row["plan_digest"], inputs=given, retry_of=run.id, rerun_from="done", attempt=2)
    await engine.ask(LOG_RUNS, again)
    await asyncio.sleep(5)


async def doubted(engine: Engine) -> None:
    act = {"id": "pay", "tool": "pay", "retry": {"max_attempts": 2, "backoff": "1s"}, "timeout": "30s"}
    step = {**act, "with": {"amount": 7}, "compensate": {"tool": "pay", "with": {"amount": -7}}}
    for answer in ("not_happened", "happened"):
        run = await engine.run(workflow("doubted", step))
        await asyncio.sleep(60)
        told = codec.raw({"paid": 7}) if answer == "happened" else codec.NULL
        await engine.ask(LOG_RUNS, SettleOutcome(step="pay", answer=answer, output=told), stream=run.id)
        await run.until("failed" if answer == "not_happened" else "succeeded")
    await asyncio.sleep(5)


async def family(engine: Engine) -> None:
    hear = {"id": "hear", "wait": {"signal": "go", "timeout": "1h"}}
    await engine.apply(workflow("child", hear, outputs="{{ steps.hear.output.data }}"))
    inner = {"id": "inner", "map": [1, 2], "sub_workflow": "child"}
    news = {"id": "news", "depends_on": ["inner"], "wait": {"event": "news", "when": "event.n > 1"}}
    run = await engine.run(workflow("family", inner, news))
    after = workflow("after", {"id": "over", "wait": {"run": run.id}})
    watching = await engine.run(after)
    await asyncio.sleep(5)
    for number, row in enumerate(await engine.log.rows("children", {"parent_id": run.id}, descending=False)):
        told = SignalRun(name="go", signal_id=f"signal-{number}", data=codec.raw({"n": number}))
        await engine.ask(LOG_RUNS, told, stream=row["id"])
    await asyncio.sleep(5)
    await engine.trigger("news", {"n": 1}, message_id="message-1")
    await engine.trigger("news", {"n": 2}, message_id="message-2")
    await watching.until("succeeded")
    cut = await engine.run(workflow("cut", {"id": "inner", "sub_workflow": "child"}))
    await asyncio.sleep(5)
    await engine.cancel(cut, "not needed any more")
    await cut.until("cancelled")
    await asyncio.sleep(5)


STORIES: dict[Callable[[Engine], Awaitable[None]], tuple[str, ...]] = {
    chain: ("run", "pln", "wfl", "tol"),
    mapped: ("run",),
    together: ("run",),
    gated: ("run",),
    approved: ("run", "apr"),
    rejected: ("run", "apr"),
    expired: ("run", "apr"),
    timer: ("run",),
    waiting: ("run", "apr"),
    cancelled: ("run", "apr"),
    authorized: ("run", "apr", "pln"),
    connected: ("con",),
    shared: ("run", "flw"),
    steered: ("run",),
    doubted: ("run",),
    family: ("run",),
}
"""The stories, and which kinds of their streams are recorded; of announced tools the stories' own."""


async def _tell(story: Callable[[Engine], Awaitable[None]]) -> dict[str, History]:
    async with Engine(tools=[greet, send, ask, post, pay]) as engine:
        await story(engine)
        streams: dict[tuple[str, str], list[Recorded]] = {}
        for log, count in LOG_PARTITIONS.items():
            for partition in range(count):
                for event in await engine.log.read(log, partition, 0, READ_MAX):
                    streams.setdefault((log, event.stream_id), []).append(event)
        found: dict[str, History] = {}
        for (log, stream_id), events in sorted(
            streams.items(), key=lambda item: (item[0][0], item[1][0].at, item[0][1])
        ):
            kind = stream_id.partition("_")[0]
            foreign = kind == "tol" and b'"pool":"golden"' not in bytes(events[0].data)
            if kind in STORIES[story] and not foreign:
                number = sum(name.startswith(f"{story.__name__}-{kind}-") for name in found) + 1
                found[f"{story.__name__}-{kind}-{number}"] = await _history(engine, log, events)
        return found


async def _history(engine: Engine, log: str, events: list[Recorded]) -> History:
    digests = {str(codec.loads(event.data).get("plan_digest", "")) for event in events} - {""}
    bodies = {} if log == LOG_CATALOGUE else await engine.log.get_blobs(sorted(digests))
    about = About(
        log=log,
        stream_id=events[0].stream_id,
        workspace=events[0].workspace,
        bodies={digest: body.decode() for digest, body in sorted(bodies.items())},
    )
    return History(
        about, [Happened(at=one.at, type=one.type, schema=one.schema, data=codec.Raw(one.data)) for one in events]
    )


def main() -> int:
    """Add the stories that are missing, write every state again, and name what changed."""
    HISTORIES.mkdir(parents=True, exist_ok=True)
    known = {name.partition("-")[0] for name in names()}
    for story in STORIES:
        if story.__name__ not in known:
            for name, history in virtual.run(_tell(story)).items():
                write(name, history)
                sys.stdout.write(f"added {name}\n")
    for name in names():
        now, file = folded(read(name)), state_file(name)
        if not file.exists() or file.read_text() != now:
            file.write_text(now)
            sys.stdout.write(f"what {name} folds to was written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
