"""What owners, workers and readers say to each other: orders, grants, beats, lines, the feed (pure).

Times are milliseconds since 1970, durations seconds.
"""

from headrace.codec import NULL, Raw
from headrace.envelope import Message


class FusedStep(Message, frozen=True, kw_only=True):
    """A step that follows an order in its chain: all that its order needs, but for the results of those before it.

    `arguments` is the plan's template: what it refers to are results of the chain, and the order's `scope`. Everything
    else is as in the order: run, workspace, pool, plan, trace.
    """

    step: str
    attempt_id: str
    kind: str
    tool: str
    arguments: Raw
    manifest_digest: str
    effect: str
    idempotency_key: str
    timeout_s: float


class WorkOrder(Message, frozen=True, kw_only=True):
    """An attempt to perform: what, with which arguments, until when, under which plan and key.

    Arguments or evidence over ORDER_INLINE_BYTES_MAX travel as a blob: then `arguments_blob` / `evidence_blob` is its
    digest and the field itself null. `arguments_digest` is `codec.sha256` of the arguments' bytes as they were sent.

    `chain` are steps that its worker performs after it, one after the other, while each succeeds; a worker that knows
    no chains performs the order alone. `scope` is what their templates may read that the chain does not make itself:
    `{"roots": {name: value}, "steps": {id: what expressions see of it}}`.
    """

    attempt_id: str
    run_id: str
    step: str
    attempt: int
    workspace: str
    kind: str
    tool: str
    pool: str
    arguments: Raw = NULL
    arguments_blob: str | None = None
    arguments_digest: str
    plan_digest: str
    manifest_digest: str
    effect: str
    idempotency_key: str
    timeout_s: float
    index: int | None = None
    evidence: Raw = NULL
    evidence_blob: str | None = None
    artifacts: Raw = NULL
    precondition: Raw = NULL
    connection: Raw = NULL
    blob_token: str = ""
    traceparent: str | None = None
    ready_at: int = 0
    """When its owner had it ready, so that a worker can tell how long it waited; 0: unknown."""
    bundles: bool = False
    """Whether its owner takes several results in one message (`messages.Told`): older ones do not."""
    chain: tuple[FusedStep, ...] = ()
    scope: Raw = NULL


class ClaimGrant(Message, frozen=True, kw_only=True):
    """The owner's answer to a claim: granted until `expires_at`, or not and why."""

    granted: bool
    nonce: str
    expires_at: int = 0
    reason: str = ""


class Holding(Message, frozen=True, kw_only=True):
    """An attempt that a worker holds; `begun` once it is performed, `progress` (0 to 1) as the tool says it."""

    attempt_id: str
    tool: str
    since: int
    run_id: str = ""
    step: str = ""
    index: int | None = None
    workspace: str = ""
    begun: bool = False
    progress: float | None = None
    message: str = ""


class Blocked(Message, frozen=True, kw_only=True):
    """A worker's event loop does not answer since a time; `tool` and `attempt_id` are empty when no tool holds it up."""

    since: int
    tool: str = ""
    attempt_id: str = ""


class Beat(Message, frozen=True, kw_only=True):
    """A worker's sign of life: what it can do and what it holds.

    `draining` takes no more work, `leaving` is the last word of a worker that ends. `answers` is the nonce of the
    BeatNow that asked for this beat. `abandoned` names the threads of tools that go on after their attempt was stopped.
    A beat that holds very much comes in `parts` messages; what is no attempt stands in `part` 0 (`headrace.beats`).
    """

    worker: str
    service: str
    host: str
    pools: tuple[str, ...]
    slots: int
    holding: tuple[Holding, ...] = ()
    started_at: int = 0
    at: int = 0
    draining: bool = False
    done_total: int = 0
    failed_total: int = 0
    tools: tuple[Raw, ...] = ()
    """An object a tool: only who shows it reads it."""
    leaving: bool = False
    cancelled_total: int = 0
    blocked: Blocked | None = None
    abandoned: tuple[str, ...] = ()
    answers: str = ""
    part: int = 0
    parts: int = 1


class Interrupt(Message, frozen=True, kw_only=True, tag="interrupt"):
    """Stop performing an attempt: its run was cancelled or it is over its time."""

    attempt_id: str
    reason: str


class EndChain(Message, frozen=True, kw_only=True, tag="end_chain"):
    """Perform an attempt to its end, or whatever its chain has come to, and begin no further step of the chain."""

    attempt_id: str
    reason: str


class BeatNow(Message, frozen=True, kw_only=True, tag="beat_now"):
    """Every worker, or the one named, says at once what it holds; its beat answers the nonce."""

    worker: str = ""
    nonce: str = ""


class Drain(Message, frozen=True, kw_only=True, tag="drain"):
    """A worker takes no more work, and finishes what it has begun; with `resume` it takes work again. It lives on."""

    worker: str
    resume: bool = False


class Probe(Message, frozen=True, kw_only=True, tag="probe"):
    """An owner's probe of the path that beats take: it must come back before silence counts.

    `served` counts the times that all it holds came to be served after a change: whoever waits for an answer of an owner
    that is gone asks again when that moves.
    """

    owner: str
    nonce: str
    served: int = 0


Control = Interrupt | EndChain | BeatNow | Drain | Probe


class AskWorker(Message, frozen=True, kw_only=True, tag="ask_worker"):
    """The api asks an owner, who holds the pools' keys, to let a worker beat now. The beat answers the nonce."""

    worker: str
    nonce: str


class DrainWorker(Message, frozen=True, kw_only=True, tag="drain_worker"):
    """The api asks an owner to let a worker take no more work, or with `resume` to let it take work again."""

    worker: str
    resume: bool = False


class RescueWorker(Message, frozen=True, kw_only=True, tag="rescue_worker"):
    """A person declares a worker dead: every owner gives up the attempts it holds. Refused while it beats, unless forced."""

    worker: str
    forced: bool = False


WorkerCommand = AskWorker | DrainWorker | RescueWorker
"""What an owner host does itself, for no stream and without an event: presence is never in the log."""


class ForgetWorkers(Message, frozen=True, kw_only=True, tag="forget_workers"):
    """Told on the presence path: everybody forgets these workers who does not hear them either.

    `pools` are those of which nobody is to be missed any more, until a worker serves them again.
    """

    workers: tuple[str, ...]
    pools: tuple[str, ...] = ()


class Line(Message, frozen=True, kw_only=True):
    """One line that an attempt printed; unique by attempt and sequence."""

    run_id: str
    attempt_id: str
    step: str
    sequence: int
    at: int
    text: str
    workspace: str
    index: int | None = None
    stream: str = "log"
    level: str = "info"


class FeedEvent(Message, frozen=True, kw_only=True, omit_defaults=False):
    """A committed event on the feed, as a CloudEvent (https://github.com/cloudevents/spec, version 1.0)."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: Raw
    log: str
    partition: int
    position: int
    version: int
    workspace: str
    specversion: str = "1.0"
    datacontenttype: str = "application/json"
