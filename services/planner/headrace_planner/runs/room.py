"""The room of the log `runs`: the run decider as the owner host runs it (pure)."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from headrace.codec import Raw
from headrace.decider import AnyRow, Context, Effect, Library, Reason, Rejection
from headrace.events.runs import RunEvent, RunQueued
from headrace.events.upcasting import fingerprint
from headrace.messages import ClaimWrite, CreateRun, LoseAttempt, ReportAttempt, RunCommand
from headrace.plans import model
from headrace.steering import DeliverEvent
from headrace.vocabulary import CLAIM_GRANT_S, LOG_RUNS
from headrace.wire import ClaimGrant
from headrace_planner.runs import decide as deciding
from headrace_planner.runs import evolve as evolving
from headrace_planner.runs import react as reacting
from headrace_planner.runs import rows as projecting
from headrace_planner.runs import state as remembering
from headrace_planner.runs.bounds import USUAL
from headrace_planner.runs.claims import given_up
from headrace_planner.runs.explain import explain
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.run_row import connections_of
from headrace_planner.runs.state import Run, RunData
from headrace_planner.runs.times import wake_after, wake_at
from headrace_planner.runs.waits import attachments

GRAPHS_MAX: Final = 512

_commands: Final[msgspec.json.Decoder[RunCommand]] = msgspec.json.Decoder(RunCommand)
_snapshots: Final[msgspec.json.Decoder[RunData]] = msgspec.json.Decoder(RunData)


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What a new run's row says beyond what its command says."""

    kind: str
    name: str
    workflow_version: int | None
    inputs_digest: str
    requester_id: str
    requester_name: str
    created_at: int
    steps_total: int
    connections: list[str] | msgspec.UnsetType
    inputs: Raw | msgspec.UnsetType


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands, and of a new one what whoever asked for it would read of it."""

    id: str
    status: str
    attempt: int
    plan_digest: str
    cancel_requested: bool
    workers_active: bool | msgspec.UnsetType
    retry_of: str | msgspec.UnsetType | None
    run: Begun | msgspec.UnsetType


class RunRoom:
    """Runs. Keeps no state but plans by digest, which never change."""

    log: ClassVar[str] = LOG_RUNS
    format: ClassVar[int] = 3

    def __init__(self, library: Library) -> None:
        self.fingerprint = fingerprint(evolving, remembering)
        self._library = library
        self.bounds = USUAL
        self._graph = lru_cache(maxsize=GRAPHS_MAX)(self._read_graph)

    def _read_graph(self, digest: str) -> Graph:
        return Graph(model.parse(self._library.body(digest)), digest)

    def initial(self, stream_id: str, workspace: str) -> Run:
        """Give a run that does not exist yet."""
        return Run(RunData(id=stream_id, workspace=workspace), bounds=self.bounds)

    def exists(self, state: Run) -> bool:
        """Tell whether the run has any event."""
        return state.exists

    def read_command(self, data: Raw | bytes) -> RunCommand:
        """Decode a command to a run."""
        return _commands.decode(data)

    def decide(self, state: Run, command: RunCommand, context: Context) -> Sequence[RunEvent] | Rejection:
        """Say what happens; raises MissingError while a body must be fetched."""
        graph = self._graph(command.plan_digest) if type(command) is CreateRun and command.plan_digest else None
        return deciding.decide(state, command, context, self._library, graph)

    def together(
        self, state: Run, commands: Sequence[ReportAttempt], context: Context
    ) -> tuple[Sequence[RunEvent], int]:
        """Say what results of items of one map, or of a chain, do that came together, and of how many, the first ones.

        None where they are to be decided one by one. Raises MissingError while a body must be fetched.
        """
        return deciding.together(state, commands, context, self._library)

    def evolve(self, state: Run, event: RunEvent, at: int) -> Run:
        """Remember an event; raises MissingError, before it changes anything, while the plan must be fetched."""
        graph = self._graph(event.plan_digest) if type(event) is RunQueued else None
        return evolving.evolve(state, event, at, graph)

    def react(self, state: Run, event: RunEvent) -> Iterable[Effect]:
        """Say what an event sets going."""
        return reacting.react(state, event)

    def receipts(self, state: Run, command: RunCommand, context: Context) -> Iterable[Effect]:
        """Say what a command earns: orders whose arguments resolve, receipts, questions again."""
        return reacting.receipts(state, command, self._library)

    def outstanding(self, state: Run, now: int) -> Iterable[Effect]:
        """Say everything that should be under way."""
        return list(reacting.outstanding(state, self._library))

    def claims(self, state: Run) -> Iterable[LoseAttempt]:
        """Give the commands that give up what workers of another database were permitted to do (`db adopt`)."""
        return list(given_up(state))

    def awaits(self, state: Run, command: ReportAttempt | LoseAttempt) -> bool:
        """Tell whether the attempt that a report is about is still out: then it is still looked after."""
        instance = (command.step, command.index)
        trial = None if state.final else state.trial(instance)
        if trial is None or trial.idle or trial.attempt != command.attempt:
            return False
        return command.attempt_id == state.attempt_id(instance, trial.attempt)

    def explain(self, state: Run) -> Sequence[Reason]:
        """Say why the run is not moving."""
        return explain(state)

    def wake_at(self, state: Run) -> int | None:
        """Give the earliest time at which something is due."""
        return wake_at(state)

    def wake_after(self, state: Run, now: int) -> int | None:
        """Give the earliest time later than `now` at which something is due."""
        return wake_after(state, now)

    def finished(self, state: Run) -> bool:
        """Tell whether the run is over."""
        return state.finished

    def rows(self, state: Run, events: Sequence[RunEvent] | None) -> Iterable[AnyRow]:
        """Give the run's projection rows; raises MissingError while a body must be fetched."""
        return list(projecting.rows(state, events, self._library))

    def attachments(self, command: RunCommand) -> Mapping[str, bytes]:
        """Give the body of a large event; other bodies that runs name are stored by their workers before."""
        return attachments(command) if type(command) is DeliverEvent else {}

    def answer(self, state: Run, command: RunCommand) -> object:
        """Give what the caller meets after commit: a new run is queued, whatever its first batch already did."""
        if isinstance(command, ClaimWrite):
            trial = state.trial((command.step, command.index))
            claimed_at = trial.claimed_at if trial and trial.claimed_at else 0
            return ClaimGrant(granted=True, nonce=command.nonce, expires_at=claimed_at + int(CLAIM_GRANT_S * 1000))
        queued = state.queued
        created = command if isinstance(command, CreateRun) else None
        new = created is not None
        return Known(
            id=state.data.id,
            status="queued" if new else str(state.data.status),
            attempt=queued.attempt,
            plan_digest=queued.plan_digest,
            cancel_requested=state.data.cancel is not None and not state.final,
            workers_active=queued.workers_active if new else msgspec.UNSET,
            retry_of=queued.retry_of if new else msgspec.UNSET,
            run=_begun(state, created) if created is not None else msgspec.UNSET,
        )

    def snapshot(self, state: Run) -> bytes:
        """Write what the run remembers."""
        return msgspec.json.encode(state.data)

    def restore(self, data: bytes) -> Run:
        """Read a snapshot back; raises MissingError while the plan must be fetched."""
        run = Run(_snapshots.decode(data), bounds=self.bounds)
        if run.data.queued is not None:
            run.graph = self._graph(run.data.queued.plan_digest)
        run.unchecked.extend(instance for instance in run.under_way())
        return run


def _begun(state: Run, command: CreateRun) -> Begun:
    """Give what a new run's row says beyond what its command says, so that whoever asked need not read the row."""
    queued = state.queued
    return Begun(
        kind=queued.kind,
        name=state.graph.plan.name,
        workflow_version=queued.workflow_version,
        inputs_digest=queued.inputs_digest,
        requester_id=queued.requester.id,
        requester_name=queued.requester.name,
        created_at=state.data.created_at,
        steps_total=len(state.graph.plan.steps),
        connections=connections_of(queued.connections) or msgspec.UNSET,
        inputs=msgspec.UNSET if queued.inputs == command.inputs else queued.inputs,
    )
