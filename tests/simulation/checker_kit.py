"""A watch of the checker that is told of streams by hand."""

from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.log.port import Recorded
from headrace.testing.checker.histories import Watch
from headrace.testing.checker.history import Finding

NOW = 1_900_000_000_000
RUN, CHILD, APPROVAL = "run_a", "run_b", "apr_a"
ANN, BEN = {"id": "tok_ann"}, {"id": "tok_ben"}
PLAN = {
    "steps": [
        {"id": "a", "body": {"tool": "read"}},
        {"id": "w", "body": {"tool": "write"}, "needs": ["a"], "retry": {"max_attempts": 2}},
        {"id": "v", "body": {"tool": "write"}, "needs": ["w"], "covered_by": ["ok"]},
        {"id": "ok", "body": {}},
    ],
    "compensations": [
        {"id": "a.compensate", "body": {"tool": "plain"}, "compensates": "a"},
        {"id": "w.compensate", "body": {"tool": "plain"}, "compensates": "w"},
    ],
    "tools": {
        "read": {"effect": "read", "access": "auto"},
        "write": {"effect": "write", "access": "gated"},
        "plain": {"effect": "write", "access": "auto"},
    },
}
Told = tuple[str, dict[str, Any]]


class Story:
    """A watch that is told of one stream after another, and everything that it said."""

    def __init__(self, plan: Mapping[str, Any] | None = None) -> None:
        self.watch = Watch(lambda digest: msgspec.json.encode(plan) if plan is not None and digest else None)
        self.said: list[Finding] = []
        self.positions: dict[str, int] = {}
        self.versions: dict[str, int] = {}

    def tell(self, stream: str, *events: Told, log: str = "runs", at: int = NOW) -> "Story":
        for kind, data in events:
            self.positions[log] = position = self.positions.get(log, 0) + 1
            self.versions[stream] = version = self.versions.get(stream, 0) + 1
            body = msgspec.json.encode({"type": kind, **data})
            self.said += self.watch.see(
                Recorded(log, 0, position, stream, version, kind, 1, "default", at, body, b"{}")
            )
        return self

    @property
    def texts(self) -> list[str]:
        return [finding.message for finding in self.said]


def told(*events: Told, plan: Mapping[str, Any] | None = None, **queued: Any) -> list[str]:
    """Give what the watch says of a run that begins and to which this happens."""
    begun = ("run.queued", {"plan_digest": "sha256:p" if plan is not None else "", **queued})
    return Story(plan).tell(RUN, begun, *events).texts


def done(step: str, attempt: int = 1, **more: Any) -> Told:
    return "step.succeeded", {"step": step, "attempt": attempt, "attempt_id": f"{step}{attempt}", **more}


def failed(step: str, attempt: int = 1, status: str = "failed", **more: Any) -> Told:
    return "attempt.failed", {
        "step": step,
        "attempt": attempt,
        "attempt_id": f"{step}{attempt}",
        "status": status,
        **more,
    }


def claimed(step: str, attempt: int = 1) -> Told:
    return "write.claimed", {"step": step, "attempt": attempt, "attempt_id": f"{step}{attempt}"}


SETTLED: Told = ("outcome.settled", {"step": "w", "answer": "not_happened"})
END: Told = ("run.succeeded", {})
OPENED: Told = ("approval.opened", {"digest": "d", "requester": ANN, "quorum": 2})
