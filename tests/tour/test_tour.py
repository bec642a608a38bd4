"""A tour of headrace: read it from top to bottom, as a tutorial. Every test shows one thing, and runs.

A *spec* says what should happen. Headrace turns it into a *plan*: exactly what will happen. A *run* is a plan under way.
The `Engine` is all of headrace in this one process: the real planner, gatekeeper and tools, on a clock that jumps
instead of waiting, and without Postgres and NATS. `ann` is an operator, who runs things. `bob` is an approver.
"""

from pathlib import Path

import pytest

import headrace
from headrace.errors import DigestMismatchError, ForbiddenError, NotAuthorizedError, StepError, ToolNotFoundError
from headrace.ports.tool import ToolContext
from headrace.testing.engine import Engine
from headrace.testing.virtual import in_virtual_time
from tests.tour.kit import workflow

HELLO = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: hello}
spec:
  inputs:
    file: {type: string, default: hello.txt}
  steps:
    - id: read
      tool: file_read
      with: {path: "{{ inputs.file }}"}
  outputs: "It says: {{ steps.read.output.contents }}"
"""


@in_virtual_time
async def test_01_hello(tmp_path: Path) -> None:
    # Tools see the files of one folder, the file root, and nothing outside of it.
    (tmp_path / "hello.txt").write_text("Hello!")
    async with Engine(file_root=tmp_path) as engine:
        # A document becomes a plan, the plan a run, and a worker performs its one step.
        run = await engine.run(HELLO)
        assert await run.result() == "It says: Hello!"
        # Nothing is kept but events, appended to a log. Whatever is shown of a run follows from them.
        assert run.events == ["run.queued", "run.started", "step.succeeded", "run.succeeded"]


@in_virtual_time
async def test_02_a_chain_hands_results_on(tmp_path: Path) -> None:
    (tmp_path / "numbers.txt").write_text("3 4 5")
    async with Engine(file_root=tmp_path) as engine:
        # A step that mentions another one waits for it. Nobody has to say in which order things happen.
        run = await engine.run("""
            apiVersion: headrace/v1
            kind: Workflow
            metadata: {name: chain}
            spec:
              steps:
                - id: doubled
                  transform: {all: "{{ steps.split.output.numbers.map(n, n * 2) }}"}
                - id: split
                  transform: {numbers: "{{ steps.read.output.contents.split(' ').map(n, int(n)) }}"}
                - id: read
                  tool: file_read
                  with: {path: numbers.txt}
              outputs: "{{ steps.doubled.output.all }}"
            """)
        assert await run.result() == [6, 8, 10]


@in_virtual_time
async def test_03_a_map_does_the_same_for_each_item(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(name * 3)
    async with Engine(file_root=tmp_path) as engine:
        run = await engine.run("""
            apiVersion: headrace/v1
            kind: Workflow
            metadata: {name: each}
            spec:
              steps:
                - id: files
                  tool: file_glob
                  with: {pattern: "*.txt"}
                - id: texts
                  map: "{{ steps.files.output.paths }}"   # a list: the step is performed for each item, side by side
                  tool: file_read
                  with: {path: "{{ item }}"}
              outputs: "{{ steps.texts.output.map(text, text.contents) }}"
            """)
        assert await run.result() == ["aaa", "bbb", "ccc"]  # in the order of the items


@in_virtual_time
async def test_04_a_gate_lets_nothing_pass_that_is_not_good_enough(tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("# Summary\n\nAll is well.\n")
    async with Engine(file_root=tmp_path) as engine:
        run = await engine.run("""
            apiVersion: headrace/v1
            kind: Workflow
            metadata: {name: gated}
            spec:
              steps:
                - id: report
                  tool: file_read
                  with: {path: report.md}
                - id: long_enough
                  gate:
                    type: expression
                    expression: size(steps.report.output.contents) > 1000
                    failure_message: The report is too short.
                - id: published
                  depends_on: [long_enough]
                  transform: {done: true}
            """)
        await run.until("failed")
        assert "The report is too short." in str(run.error_message)
        assert run.step("long_enough").status == "failed"
        assert run.step("published").status == "cancelled"  # it never began


@headrace.tool(name="send", effect="write")
def send(text: str, context: ToolContext) -> dict[str, str]:
    """Pretend to send a letter. It says that it changes the world, so somebody has to agree first."""
    context.log(f"sending {text}")
    return {"sent": text}


LETTER = """
apiVersion: headrace/v1
kind: Workflow
metadata: {name: letter}
spec:
  steps:
    - id: sign_off
      approval: {roles: [approver], prompt: "Send the letter?"}
    - id: send
      depends_on: [sign_off]
      tool: send
      with: {text: Dear all}
  outputs: "{{ steps.send.output }}"
"""


@in_virtual_time
async def test_05_an_approval_is_given_by_somebody_else_on_what_was_shown() -> None:
    async with Engine(tools=[send]) as engine:
        run = await engine.run(LETTER, as_="ann")
        await run.until("waiting")
        assert run.waiting_for == "approval"
        # Whoever asked may not agree, whatever their roles.
        with pytest.raises(ForbiddenError):
            await engine.approve(run, "sign_off", as_="ann")
        # A decision names, by its digest, exactly what was shown. For anything else it does not count.
        with pytest.raises(DigestMismatchError):
            await engine.approve(run, "sign_off", as_="bob", digest="sha256:" + "0" * 64)
        assert "send" not in run.steps
        await engine.approve(run, "sign_off", as_="bob")
        assert await run.result() == {"sent": "Dear all"}


@in_virtual_time
async def test_06_a_rejection_ends_the_run_and_its_reason_is_kept() -> None:
    async with Engine(tools=[send]) as engine:
        run = await engine.run(LETTER, as_="ann")
        await engine.reject(run, "sign_off", as_="bob", reason="Not to all of them.")
        await run.until("failed")
        assert "Not to all of them." in str(run.error_message)
        assert run.step("send").status == "cancelled"


@in_virtual_time
async def test_07_a_day_passes_in_no_time() -> None:
    async with Engine() as engine:
        run = await engine.run("""
            apiVersion: headrace/v1
            kind: Workflow
            metadata: {name: tomorrow}
            spec:
              steps:
                - id: night
                  wait: {timer: 1d}
                - id: morning
                  depends_on: [night]
                  transform: {word: Good morning}
              outputs: "{{ steps.morning.output.word }}"
            """)
        await run.until("waiting")
        await engine.pass_time("23h")
        assert (run.status, run.waiting_for) == ("waiting", "timer")
        await engine.pass_time("1h")
        assert await run.result() == "Good morning"


@in_virtual_time
async def test_08_a_step_that_fails_is_tried_again() -> None:
    calls = 0

    @headrace.tool
    def moody(context: ToolContext) -> dict[str, int]:
        """Fail twice, then work."""
        nonlocal calls
        calls += 1
        if calls < 3:
            message = "not now"
            raise StepError(message, type="upstream_error")
        return {"calls": calls}

    async with Engine(tools=[moody]) as engine:
        run = await engine.run("""
            apiVersion: headrace/v1
            kind: Workflow
            metadata: {name: patient}
            spec:
              steps:
                - id: ask
                  tool: moody
                  retry: {max_attempts: 3, backoff: 10s}
              outputs: "{{ steps.ask.output }}"
            """)
        assert await run.result() == {"calls": 3}
        # Each try is an attempt, and each failure an event of its own.
        assert run.step("ask").attempt == 3
        assert run.events.count("attempt.failed") == 2


CLEAN_UP = """
apiVersion: headrace/v1
kind: ToolPlan
metadata: {name: clean-up}
spec:
  steps:
    - id: note
      tool: file_create
      with: {path: note.txt, contents: "cleaned"}
"""


@in_virtual_time
async def test_09_what_may_not_run_is_refused_before_anything_happens(tmp_path: Path) -> None:
    async with Engine(file_root=tmp_path) as engine:
        # A ToolPlan runs only when somebody has authorised exactly this plan.
        with pytest.raises(NotAuthorizedError):
            await engine.run(CLEAN_UP)
        # A mistake in a document is found when it is compiled, and the nearest name is told.
        with pytest.raises(ToolNotFoundError, match="file_create"):
            await engine.run(CLEAN_UP.replace("file_create", "file_crate"))
        assert await engine.runs() == []
        assert list(tmp_path.iterdir()) == []
        # Once authorised, it runs. One letter changed would be another plan.
        await engine.authorize(CLEAN_UP, as_="ann", by="bob")
        await (await engine.run(CLEAN_UP)).result()
        assert (tmp_path / "note.txt").read_text() == "cleaned"
        with pytest.raises(NotAuthorizedError):
            await engine.run(CLEAN_UP.replace("cleaned", "Cleaned"))


@in_virtual_time
async def test_10_an_event_from_outside_starts_runs() -> None:
    async with Engine() as engine:
        await engine.apply("""
            apiVersion: headrace/v1
            kind: Workflow
            metadata: {name: on-push}
            spec:
              triggers:
                - {type: event, event: repo.pushed, when: "event.branch == 'main'"}
              steps:
                - id: who
                  transform: {name: "{{ trigger.author }}"}
              outputs: "{{ steps.who.output.name }}"
            """)
        # Any NATS client may publish on `headrace.trigger.repo.pushed`; whoever declared that name gets a run.
        assert await engine.trigger("repo.pushed", {"branch": "side", "author": "Ada"}) == []
        (run,) = await engine.trigger("repo.pushed", {"branch": "main", "author": "Ada"}, message_id="push-1")
        assert await run.result() == "Ada"
        # Messages come twice now and then. The same message means the same run.
        (again,) = await engine.trigger("repo.pushed", {"branch": "main", "author": "Ada"}, message_id="push-1")
        assert again.id == run.id
        assert len(await engine.runs()) == 1


@in_virtual_time
async def test_11_the_planner_dies_and_the_run_goes_on() -> None:
    # A document may be a mapping as well as YAML text. This one is a chain of 20 steps.
    chain = [{"id": "s0", "tool": "echo", "with": {"text": "on"}}]
    chain += [
        {"id": f"s{n}", "tool": "echo", "with": {"text": f"{{{{ steps.s{n - 1}.output.said }}}}!"}}
        for n in range(1, 20)
    ]
    performed = []

    @headrace.tool
    async def echo(text: str, context: ToolContext) -> dict[str, str]:
        """Give back what came; the planner dies while the fifth is performed."""
        performed.append(text)
        if len(performed) == 5:
            await engine.kill_planner()
        return {"said": text}

    async with Engine(tools=[echo]) as engine:
        run = await engine.run(workflow("long", *chain, outputs="{{ steps.s19.output.said }}"))
        # A new planner takes over. All it needs is what the dead one had committed to the log.
        assert await run.result() == "on" + "!" * 19
        assert len(performed) == 20  # nothing was lost, and nothing done twice


@headrace.tool
def count_words(text: str, context: ToolContext, *, unique: bool = False) -> dict[str, int]:
    """Count the words of a text, or how many different ones it has."""
    words = text.split()
    context.log(f"{len(words)} words")
    return {"words": len(set(words) if unique else words)}


@in_virtual_time
async def test_12_a_tool_of_ones_own_is_a_typed_function() -> None:
    # `headrace worker FILE` serves such functions in production; here the engine does.
    async with Engine(tools=[count_words]) as engine:
        run = await engine.run(
            """
            apiVersion: headrace/v1
            kind: Workflow
            metadata: {name: words}
            spec:
              inputs:
                text: {type: string}
              steps:
                - id: all
                  tool: count_words
                  with: {text: "{{ inputs.text }}", unique: true}
              outputs: "{{ steps.all.output.words }}"
            """,
            {"text": "to be or not to be"},
        )
        assert await run.result() == 4
        assert await engine.lines(run) == ["6 words"]
