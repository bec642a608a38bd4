"""Compiling loops, waits, sub-workflows, compensation, policies: the plan, or what is wrong with them."""

from headrace.plans import model, show
from headrace.plans.model import Concurrency, LoopStep, Plan, SubWorkflowStep, WaitStep
from headrace.specs.documents import read_one, write
from headrace.specs.problems import Problems
from headrace_planner.compile.children import Workflows, callee
from headrace_planner.compile.compiler import compile as compile_document
from tests.planner.catalogue_fixture import catalogue
from tests.planner.test_compile import plan_of, problems_of, text_of

LOOP = """
    id: seed, transform: 3
    id: fix, loop: {while: "iteration < steps.seed.output", steps: [edit, check], max_iterations: 9}
    id: edit, transform: "{{ iteration }}"
    id: check, transform: "{{ steps.edit.output + 1 }}"
    id: after, transform: "{{ steps.check.output }}"
"""


def test_a_loop_holds_its_body_and_what_needs_the_body_needs_the_loop() -> None:
    plan = plan_of(LOOP)
    assert plan.step("fix").body == LoopStep(condition="iteration < steps.seed.output", body=("edit", "check"), cap=9)
    assert plan.step("fix").needs == ("seed",)
    assert (plan.step("edit").parent, plan.step("edit").needs) == ("fix", ())
    assert (plan.step("check").parent, plan.step("check").needs) == ("fix", ("edit",))
    assert plan.step("after").needs == ("fix",)
    assert "while iteration < steps.seed.output, 9 rounds at most" in show.table_text(plan)


def test_what_a_body_needs_from_outside_its_loop_needs() -> None:
    plan = plan_of("""
        id: before, transform: 1
        id: outer, loop: {while: "iteration < 2", steps: [inner]}
        id: inner, loop: {while: "iteration < 2", steps: [leaf]}
        id: leaf, transform: "{{ steps.before.output }}"
    """)
    assert plan.step("outer").needs == ("before",)
    assert (plan.step("inner").needs, plan.step("leaf").needs, plan.step("leaf").parent) == ((), (), "inner")


def test_loops_that_do_not_fit_are_refused() -> None:
    assert any(
        "loops hold each other" in said
        for said in problems_of("""
        id: a, loop: {while: "true", steps: [b]}
        id: b, loop: {while: "true", steps: [a]}
    """)
    )
    assert any(
        "already" in said
        for said in problems_of("""
        id: a, loop: {while: "true", steps: [x]}
        id: b, loop: {while: "true", steps: [x]}
        id: x, transform: 1
    """)
    )
    assert any(
        "among steps beside itself" in said
        for said in problems_of("""
        id: a, loop: {while: "true", steps: [x]}
        id: x, transform: 1
        id: c, condition: {expression: "true", then: [x]}
    """)
    )
    assert any("there is no previous here" in said for said in problems_of('id: a, transform: "{{ previous.a }}"'))
    assert any("there is no iteration here" in said for said in problems_of('id: a, transform: "{{ iteration }}"'))


def test_an_approval_in_a_loop_covers_its_own_round_alone() -> None:
    plan = plan_of("""
        id: again, loop: {while: "iteration < 2", steps: [ask, act]}
        id: ask, approval: {prompt: "Go on?"}
        id: act, tool: file_write, with: {path: a, contents: b}, depends_on: [ask]
        id: late, tool: file_write, with: {path: a, contents: b}, depends_on: [ask]
    """)
    assert plan.step("act").covered_by == ("ask",)
    assert plan.step("late").covered_by == ()
    assert plan.authorization == "run"


def test_waits_name_what_ends_them() -> None:
    plan = plan_of(
        """
        id: s, wait: {signal: go.on, timeout: 1h}
        id: e, wait: {event: deploy.done, when: "event.data.env == inputs.env"}
        id: r, wait: {run: "{{ inputs.env }}", timeout: 2m}
        id: t, wait: 30s
    """,
        "  inputs: {env: string}\n",
    )
    assert plan.step("s").body == WaitStep(signal="go.on", expires_s=3600.0)
    assert plan.step("e").body == WaitStep(event="deploy.done", when="event.data.env == inputs.env")
    assert plan.step("r").body == WaitStep(of_run="{{ inputs.env }}", expires_s=120.0)
    assert plan.step("t").body == WaitStep(seconds=30.0)


def test_compensation_is_a_step_of_its_own_that_undoes_another() -> None:
    plan = plan_of("""
        id: ask, approval: {}
        id: make, tool: file_write, with: {path: a, contents: b}, depends_on: [ask], compensate: {tool: file_write, with: {path: a, contents: "{{ output.path }}"}, retry: 2}
    """)
    (undo,) = plan.compensations
    assert (undo.id, undo.compensates, undo.covered_by) == ("make.compensate", "make", ("ask",))
    assert undo.retry.max_attempts == 2
    assert [step.id for step in plan.steps] == ["ask", "make"]
    assert plan.authorization == "none"


def test_policies_timeouts_and_concurrency_reach_the_plan() -> None:
    plan = plan_of(
        """
        id: m, map: [1, 2], tool: file_read, with: {path: "{{ item }}x"}, concurrency: 1, on_item_error: collect, timeout: {attempt: 5s, step: 1m, queue: 10s}
    """,
        '  concurrency: {key: "{{ inputs.repo }}", limit: 2, on_conflict: replace}\n  priority: 7\n  inputs: {repo: string}\n',
    )
    step = plan.step("m")
    assert (step.concurrency, step.on_item_error) == (1, "collect")
    assert (step.timeout_s, step.step_timeout_s, step.queue_timeout_s) == (5.0, 60.0, 10.0)
    assert plan.concurrency == Concurrency(key="{{ inputs.repo }}", limit=2, on_conflict="replace")
    assert plan.priority == 7
    assert plan_of("id: a, transform: 1", "  concurrency: 3\n").concurrency == Concurrency(key="workflow/w", limit=3)


def test_the_long_forms_are_written_back_as_they_mean() -> None:
    document = read_one(text_of(LOOP))
    assert read_one(write(document)) == document


def nested(levels: int) -> Workflows:
    """Give workflows w0 (no child) to w<levels> (levels below it)."""
    known: dict[str, object] = {}
    for level in range(levels + 1):
        step = "id: x, transform: 1" if level == 0 else f"id: x, sub_workflow: w{level - 1}"
        made = compile_document(read_one(text_of(step)), catalogue(), known)  # type: ignore[arg-type]  # filled as it grows
        assert isinstance(made, Plan), [str(problem) for problem in made]
        known[f"w{level}"] = callee(1, model.digest(made), made)
    return known  # type: ignore[return-value]  # as above


def refusals(step: str, known: Workflows) -> list[str]:
    made = compile_document(read_one(text_of(step)), catalogue(), known)
    assert isinstance(made, Problems)
    return [f"{problem.type}: {problem.message}" for problem in made]


def test_row_56_five_levels_of_sub_workflows_compile_and_the_sixth_is_refused_with_depth() -> None:
    known = nested(4)
    made = compile_document(read_one(text_of("id: x, sub_workflow: {workflow: w4}")), catalogue(), known)
    assert isinstance(made, Plan)
    assert made.step("x").body == SubWorkflowStep(workflow="w4")
    assert made.workflows["w4"].depth == 5
    known = {**known, "w5": callee(1, model.digest(made), made)}
    (said,) = refusals("id: x, sub_workflow: w5", known)
    assert said.startswith("depth_exceeded: depth")


def test_a_child_that_does_not_fit_is_refused() -> None:
    made = compile_document(read_one(text_of("id: x, transform: 1", "  inputs: {n: integer}\n")), catalogue())
    assert isinstance(made, Plan)
    known = {"kid": callee(3, model.digest(made), made)}
    assert refusals("id: x, sub_workflow: {workflow: kid, with: {m: 1}}", known) == [
        "missing_argument: 'kid' needs the input 'n' (integer)",
        "validation_error: 'kid' has no input 'm'; there are: n",
    ]
    assert "did you mean kid?" in refusals("id: x, sub_workflow: kit", known)[0]
    assert refusals("id: x, sub_workflow: far", known)[0].endswith("there is no workflow 'far'; apply it first")
    assert "cannot run itself" in refusals("id: x, sub_workflow: w", known)[0]
    around = compile_document(
        read_one(text_of("id: x, sub_workflow: {workflow: kid, with: {n: 1}}")), catalogue(), known
    )
    assert isinstance(around, Plan)
    document = read_one(text_of("id: x, sub_workflow: top").replace("name: w", "name: kid"))
    made = compile_document(document, catalogue(), {"top": callee(1, model.digest(around), around)})
    assert isinstance(made, Problems)
    assert "cannot run itself by way of 'top'" in next(iter(made)).message
