"""The words and the limits: one name per thing, every limit with its unit (pure)."""

import re
from enum import StrEnum
from typing import Final


class RunStatus(StrEnum):
    """Where a run stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WaitingFor(StrEnum):
    """What a waiting run waits for."""

    APPROVAL = "approval"
    START = "start"
    TIMER = "timer"
    SIGNAL = "signal"
    EVENT = "event"
    INPUT = "input"
    CONNECTION = "connection"
    RETRY = "retry"
    CONCURRENCY = "concurrency"
    RATE_LIMIT = "rate_limit"
    CHILDREN = "children"
    RESUME = "resume"


class StepStatus(StrEnum):
    """Where a step of a run stands."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class AttemptStatus(StrEnum):
    """How one try of a step stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    CANCELLED = "cancelled"


class ApprovalStatus(StrEnum):
    """Where an approval stands; all but the first are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"


class Effect(StrEnum):
    """What a tool does to the world."""

    READ = "read"
    WRITE = "write"
    NOTIFY = "notify"


class Access(StrEnum):
    """Whether a tool may be used: by itself, only under an approval, or not at all."""

    AUTO = "auto"
    GATED = "gated"
    FORBIDDEN = "forbidden"


class Automation(StrEnum):
    """How much happens without a person."""

    FULLY_AUTO = "fully_auto"
    AUTO_NOTIFY = "auto_notify"
    HUMAN_APPROVAL = "human_approval"
    MANUAL = "manual"


class Role(StrEnum):
    """What a token may do; an admin may do everything."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


class Outcome(StrEnum):
    """What a gate says."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


RUN_FINAL: Final = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})
STEP_FINAL: Final = frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED})
RUN_STATUS_ALIASES: Final = {
    "pending": "queued",
    "success": "succeeded",
    "done": "succeeded",
    "completed": "succeeded",
    "complete": "succeeded",
    "error": "failed",
    "crashed": "failed",
    "paused": "waiting",
    "canceled": "cancelled",
    "in_progress": "running",
}
"""Older spellings that filters accept, in any case; never emitted."""

LOG_RUNS: Final = "runs"
LOG_CATALOGUE: Final = "catalogue"
LOG_APPROVALS: Final = "approvals"
LOG_FLOW: Final = "flow"
LOG_PARTITIONS: Final = {LOG_RUNS: 8, LOG_CATALOGUE: 1, LOG_APPROVALS: 4, LOG_FLOW: 8}
"""Partitions a new database gets; an existing one keeps its own numbers."""

POOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a pool may be called: its name is part of the bus's own."""
BAD_POOL: Final = "no pool can be named {!r}: letters, digits, '_' and '-', at most 64"
POOL_RUNNER: Final = "runner"
POOL_GATES: Final = "gates"
POOL_INTEGRATIONS: Final = "integrations"
WORKSPACE_DEFAULT: Final = "default"

RUN_TIMEOUT_S: Final = 1_800.0
STEP_TIMEOUT_S: Final = 300.0
TOOL_TIMEOUT_S: Final = 30.0
APPROVAL_EXPIRES_S: Final = 7 * 86_400.0
PRESENCE_INTERVAL_S: Final = 2.0
PRESENCE_LOST_S: Final = 10.0
RESCUE_SILENT_S: Final = 3 * PRESENCE_INTERVAL_S
"""After this silence a person may declare a worker dead without forcing it: it missed three beats."""
PRESENCE_STALE_S: Final = 60.0
PRESENCE_FORGOTTEN_S: Final = 120.0
DRAIN_S: Final = 30.0
INLINE_BYTES_MAX: Final = 32 * 1024
ORDER_INLINE_BYTES_MAX: Final = 128 * 1024
MAP_IN_FLIGHT_MAX: Final = 256
"""Items of one map that are under way at once, so that a long list neither floods a pool nor a batch."""
FUSE_STEPS_MAX: Final = 64
"""Steps of a chain that one order may bring; the planner orders the rest when they are over."""
FUSE_BYTES_MAX: Final = 64 * 1024
"""What the steps of a chain may add to an order: templates, and values that they read from outside the chain."""
FUSE_S: Final = 1.0
"""After this a worker begins no further step of a chain, so that nobody waits longer for its slot than without."""
FUSE_SEND_S: Final = 0.05
"""How long a worker may keep a result of a chain before it sends it."""
COMPENSATION_TIMEOUT_S: Final = 3_600.0
"""How long a run may take to undo what its steps did; time in which only people are waited for does not count."""
CANCEL_GRACE_S: Final = 10.0
TELL_REPEAT_S: Final = 2.0
TELL_REPEAT_MAX_S: Final = 60.0
SPEC_BYTES_MAX: Final = 1024 * 1024
REQUEST_BYTES_MAX: Final = 8 * 1024 * 1024
BLOB_BYTES_MAX: Final = 256 * 1024 * 1024
MESSAGE_BYTES_MAX: Final = 1024 * 1024
PREVIEW_CHARS: Final = 1_000
STEPS_MAX: Final = 1_000
MAP_ITEMS_MAX: Final = 100_000
LOOP_CAP: Final = 100
LOOP_CAP_MAX: Final = 10_000
SUB_WORKFLOW_DEPTH_MAX: Final = 5
SIGNALS_KEPT_MAX: Final = 1_000
LATE_REMEMBERED_MAX: Final = 1_000
"""Late results of a run that are known when they come again: more than an inbox brings twice after NATS was killed. An
older one is recorded once more, which changes nothing either."""
PRIORITY_MAX: Final = 100
"""Priorities go from -PRIORITY_MAX to PRIORITY_MAX; higher first."""
CONCURRENCY_LIMIT_MAX: Final = 10_000
"""Runs that may hold one concurrency key at once."""
FLOW_KEY_CHARS_MAX: Final = 256
RATE_LIMIT_MAX: Final = 10_000
"""Attempts that a rate limit may let begin in one period: so many times are kept for each key."""
RATE_PERIOD_S_MAX: Final = 7 * 86_400.0
PERMITS_ASKED_MAX: Final = 64
"""Attempts for which a run asks a rate limit at once; it asks for the next ones when these may begin."""
PERMIT_CONFIRM_S: Final = 300.0
"""How long a run holds a key before the key asks it whether it still does, so that a lost release heals."""
PERMIT_CONFIRM_WANTED_S: Final = 20.0
"""The same while somebody waits for the key."""
KEY_RESTS_S: Final = 3_600.0
"""How long after its last use the stream of a key that runs share ends, which nobody holds."""
KEY_MOVES_S: Final = 7 * 86_400.0
"""How old the stream of such a key becomes while it is in use: then it goes on in a new one, so that months can leave."""
KEY_MOVED_PERMITS_MAX: Final = 1_000
"""Requests up to which it moves, so that what it begins with is no more than 300 KB; with more it moves later."""
UNFINISHED_RUNS_MAX: Final = 20_000
"""Runs of one workspace that may be unfinished at once; HEADRACE_UNFINISHED_RUNS_MAX sets another number."""
BATCH_EVENTS_MAX: Final = 500
RETRY_ATTEMPTS_DEFAULT: Final = 3
RETRY_ATTEMPTS_MAX: Final = 100
LOST_ATTEMPTS_MAX: Final = 3
NEVER_AGAIN: Final = frozenset(
    {
        "validation_error",
        "missing_argument",
        "tool_not_found",
        "confirmation_denied",
        "not_authorized",
        "forbidden",
        "precondition_failed",
        "integration_not_connected",
    }
)
"""Types of errors that the same call would meet again: no `retry` tries them again."""
HANDED_BACK_AT_ONCE_MAX: Final = 3
"""How often leaving workers may hand one attempt back and another takes it up at once; from then on it waits before."""
HANDED_BACK_WAIT_S_MAX: Final = 60.0
"""The longest of these waits, which begin with 1 s and double."""
HANDED_BACK_MAX: Final = 100
"""How often it may come back in all, which takes an hour and a half at least; then its step fails."""
ATTEMPTS_KEPT_MAX: Final = 20
"""Failed attempts of a step that its row shows, the last ones; the history has all."""
ATTEMPT_TIMEOUT_S_MAX: Final = 24 * 3_600.0
ATTEMPT_GRACE_S: Final = 30.0
"""How long past its timeout a living worker may still bring an attempt's result before the owner ends the attempt."""
IDEMPOTENCY_KEPT_S: Final = 7 * 86_400.0
IDEMPOTENCY_KEY_CHARS_MAX: Final = 255
PAGE_DEFAULT: Final = 20
PAGE_MAX: Final = 100
LEASE_S: Final = 4.0
LEASE_RENEW_S: Final = 1.5
CLAIM_GRANT_S: Final = 30.0
"""How long a permission to act for a write is good for before it must be asked again."""

GC_THRESHOLDS: Final = (20_000, 20, 50)
"""How often a process looks for garbage in cycles: Python's own (2,000, 10, 10) suit programs that keep little."""
