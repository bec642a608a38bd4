"""The shell beside steering: an earlier run's results for a rerun, and the tool's schema for what a person says."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from headrace import codec, ids
from headrace.codec import NULL, Raw
from headrace.decider import Context, MissingError
from headrace.errors import ConflictError, NotFoundError, StepError, ValidationError
from headrace.events import registry
from headrace.events.base import BlobRef
from headrace.events.catalogue import ToolManifest
from headrace.events.runs import RunQueued
from headrace.events.steering import ArtifactsPiece, ItemsPiece, ReusedItems, StepReused
from headrace.host.library import CachedLibrary
from headrace.messages import CreateRun
from headrace.plans.model import CallStep
from headrace.steering import SettleOutcome
from headrace.vocabulary import BLOB_BYTES_MAX, INLINE_BYTES_MAX, LOG_RUNS, PREVIEW_CHARS, RUN_FINAL, StepStatus
from headrace_planner.catalogue.reading import Plans, Store
from headrace_planner.catalogue.state import stream_of
from headrace_planner.compile.arguments import value_problems
from headrace_planner.runs import artifacts, named
from headrace_planner.runs.doubts import HAPPENED
from headrace_planner.runs.evolve import evolve
from headrace_planner.runs.graph import Graph
from headrace_planner.runs.inputs import accept
from headrace_planner.runs.kept import MapState, Settled
from headrace_planner.runs.pieces import failed_items, made, read, reused_items
from headrace_planner.runs.reuse import check_inputs, reused_steps
from headrace_planner.runs.state import Run, RunData, StepState

EVENTS_READ: Final = 250
"""Events that are folded before others have their turn: about five milliseconds."""
BLOBS_READ: Final = 100
REUSED_INLINE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Results that travel in the events of one rerun; what is beyond becomes a blob."""


class Reruns:
    """Reads earlier runs from the log."""

    def __init__(self, log: Store, plans: Plans) -> None:
        self._log, self._plans = log, plans

    async def reused(self, command: CreateRun, context: Context) -> tuple[StepReused, ...]:
        """Give the results of the earlier run that stand for the new one's.

        Raises NotFoundError (no such run or step), ConflictError when the earlier run is not over, was of another
        plan, or has no result to stand where one is needed, and when inputs differ that a result depends on.
        """
        assert command.retry_of is not None and command.rerun_from is not None, "it is a rerun"  # noqa: PT018  (one thought)
        run = await self._read(command.retry_of, context.workspace)
        if run.queued.plan_digest != command.plan_digest:
            message = f"run {command.retry_of} is of plan {run.queued.plan_digest}, not {command.plan_digest}"
            raise ConflictError(message)
        steps = reused_steps(run, command.rerun_from)
        fields = run.graph.plan.inputs
        check_inputs(run, steps, codec.loads(run.queued.inputs), accept(fields, codec.loads(command.inputs)))
        found: list[StepReused] = []
        spent = 0
        for step_id in steps:
            state = run.peek(step_id).map
            if state is not None and _in_pieces(state, REUSED_INLINE_BYTES_MAX - spent):
                items = reused_items(state, await self._pieces(state))
                reused = _reused(run, step_id, NULL, None, items)
            else:
                output, blob = await self._result(run, step_id, REUSED_INLINE_BYTES_MAX - spent, context.workspace)
                spent += len(bytes(output))
                reused = _reused(run, step_id, output, blob)
            left, outputs = await self._artifacts(run.peek(step_id)), await self._outputs(run, step_id)
            if left or outputs != NULL:
                reused = msgspec.structs.replace(reused, artifact_pieces=left, outputs=outputs)
            found.append(reused)
        return tuple(found)

    async def check_settled(self, command: SettleOutcome, context: Context) -> None:
        """Hold what a person says to the tool's own output schema, if it is the one the plan means.

        Raises ValidationError. What is not known here (the run, its step), and what is not asked about (the run is over,
        the step does not wait), the decider refuses.
        """
        row = await self._log.row("runs", {"id": context.stream_id})
        if command.answer != HAPPENED or row is None or row["workspace"] != context.workspace:
            return
        if row["status"] in RUN_FINAL:
            return
        plan = await self._plans.get(row["plan_digest"])
        step = next((step for step in (*plan.steps, *plan.compensations) if step.id == command.step), None)
        if step is None or not isinstance(step.body, CallStep):
            return
        known = await self._log.row("steps", {"run_id": context.stream_id, "step": command.step})
        if known is None or (known["items_total"] is None and known["status"] != StepStatus.WAITING):
            return
        tool = await self._log.row("tools", {"id": stream_of(ids.TOOL, context.workspace, step.body.tool)})
        if tool is None or tool["digest"] != plan.tools[step.body.tool].digest:
            return
        schema = msgspec.convert(tool["manifest"], ToolManifest).output_schema
        problems = list(value_problems(schema, codec.loads(command.output), ("output",)))
        if problems:
            told = [{"field": ".".join(map(str, path)), "message": said} for path, said, _ in problems]
            hint = "" if command.output != NULL else "say what it gave, by `output` (--output JSON); "
            message = f"{hint}{step.body.tool} gives no such output: {'; '.join(each['message'] for each in told)}"
            raise ValidationError(message, details={"problems": told})

    async def _read(self, run_id: str, workspace: str) -> Run:
        """Fold an earlier run of the workspace from its own events."""
        row = await self._log.row("runs", {"id": run_id})
        if row is None or row["workspace"] != workspace:
            message = f"there is no run {run_id!r}"
            raise NotFoundError(message)
        run, after = Run(RunData(id=run_id, workspace=workspace)), 0
        graph = Graph(await self._plans.get(row["plan_digest"]), row["plan_digest"])
        while page := await self._log.stream(LOG_RUNS, run_id, after, EVENTS_READ):
            for recorded in page:
                event: Any = registry.read(recorded)
                evolve(run, event, recorded.at, graph if isinstance(event, RunQueued) else None)
            after = page[-1].version
        if not run.exists:
            message = f"run {run_id} has no beginning in the log: it was archived"
            raise NotFoundError(message)
        return run

    async def _result(self, run: Run, step_id: str, room: int, workspace: str) -> tuple[Raw, BlobRef | None]:
        known = run.peek(step_id)
        if known.blob is not None:
            return NULL, known.blob
        output = bytes(known.output) if known.map is None else await self._whole(step_id, known.map)
        if len(output) <= min(INLINE_BYTES_MAX, room):
            return Raw(output), None
        digest = codec.sha256(output)
        await self._log.put_blob(digest, output, workspace)
        preview = output[:PREVIEW_CHARS].decode("utf-8", "replace")
        return NULL, BlobRef(digest=digest, size_bytes=len(output), preview=preview)

    async def _pieces(self, state: MapState) -> list[ItemsPiece]:
        """Give the pieces that a long map's results are in, each with the bodies that it names: none is read as a whole.

        What is in no piece yet becomes one.
        """
        pieces = list(state.pieces)
        if state.settled:
            piece, body = made(state, sorted(state.settled))
            await self._log.put_blob(piece.digest, body)
            pieces.append(piece)
        if not state.large:
            return pieces
        named = []
        for piece in pieces:
            body = (await self._bodies([piece.digest]))[piece.digest]
            blobs = tuple(sorted({blob.digest for blob in read(body).blobs.values()}))
            named.append(msgspec.structs.replace(piece, blobs=blobs))
        return named

    async def _artifacts(self, known: StepState) -> tuple[ArtifactsPiece, ...]:
        """Give the pieces that a step's artifacts are in, each with the bodies that it names."""
        pieces = []
        for piece in known.artifact_pieces:
            blobs = piece.blobs
            if piece.large and not blobs:
                blobs = artifacts.blobs_in((await self._bodies([piece.digest]))[piece.digest])
            pieces.append(msgspec.structs.replace(piece, blobs=blobs))
        return tuple(pieces)

    async def _outputs(self, run: Run, step_id: str) -> Raw:
        """Give a step's named outputs where the new run could not make them; those that cannot be made are its matter."""
        library = CachedLibrary()
        while True:
            try:
                return named.standing(run, step_id, library)
            except MissingError as missing:
                library.add(await self._bodies(missing.digests))
            except StepError:
                return NULL
            except ValidationError as problem:
                message = f"{problem.message}: run again from {step_id!r}"
                raise ConflictError(message, details=problem.details) from None

    async def _whole(self, step_id: str, state: MapState) -> bytes:
        """Put the list of a short map's results together, bodies that are kept as blobs among them."""
        if state.size > BLOB_BYTES_MAX:
            message = (
                f"the results of {step_id!r} take {state.size} bytes; at most {BLOB_BYTES_MAX} can stand: "
                "run again from it"
            )
            raise ConflictError(message, details={"step": step_id})
        items = [state.settled.get(index, Settled()) for index in range(state.count)]
        bodies = await self._bodies(item.blob.digest for item in items if item.blob is not None)
        parts = (bodies[item.blob.digest] if item.blob is not None else bytes(item.output) for item in items)
        return b"[" + b",".join(parts) + b"]"

    async def _bodies(self, digests: Iterable[str]) -> dict[str, bytes]:
        wanted = sorted(set(digests))
        found: dict[str, bytes] = {}
        for first in range(0, len(wanted), BLOBS_READ):
            found |= await self._log.get_blobs(wanted[first : first + BLOBS_READ])
        missing = [digest for digest in wanted if digest not in found]
        if missing:
            message = f"the earlier run's result {missing[0]} is not kept any more"
            raise NotFoundError(message)
        return found


def _in_pieces(state: MapState, room: int) -> bool:
    """Tell whether a map's results stand as pieces: it has some, or, of items that failed, the list alone would not say so."""
    long = state.large or state.size + 1 > min(INLINE_BYTES_MAX, room)
    return bool(state.pieces) or (state.failures > 0 and long)


def _reused(run: Run, step_id: str, output: Raw, blob: BlobRef | None, items: ReusedItems | None = None) -> StepReused:
    known: StepState = run.peek(step_id)
    why = known.reason or (known.error.message if known.error else "")
    return StepReused(
        step=step_id,
        run_id=run.data.id,
        status=str(known.status),
        attempt_id=known.attempt_id,
        output=output,
        blob=blob,
        artifacts=tuple(kept for _, _, _, kept in known.artifacts),
        evidence=known.evidence,
        reason=why,
        items=items,
        error=known.error,
        failed=() if known.map is None or items is not None else failed_items(known.map),
    )
