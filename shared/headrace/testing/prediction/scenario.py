"""What a simulation supposes: inputs, results, failures, decisions and signals; and the names by which they are given.

A name is a step's id, and may say more: `fix#2` (a round of a loop), `read[3]` (an item of a map), `fix#2[3]` (both),
`child/build` (a step of the run that the sub-workflow step `child` starts). What says most wins.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from headrace import ids
from headrace.errors import ValidationError
from headrace.expressions.near import hint

NAME: Final = re.compile(r"^(?P<head>[^/#\[\]]+)(?:#\d+)?(?:\[\d+\])?(?P<below>/.+)?$")
FAILURE: Final = "tool_error"
STUBS: Final = "stubs"
FAIL: Final = "fail"
APPROVE: Final = "approve"
REJECT: Final = "reject"
SIGNALS: Final = "signals"
OPTIONS: Final = {STUBS: "--stub", FAIL: "--fail", APPROVE: "--approve", REJECT: "--reject", SIGNALS: "--signal"}
"""What the command line calls a request's fields."""
LISTED: Final = frozenset({APPROVE, REJECT})
"""Fields that list names."""
WHOLE_RUN: Final = "run"
"""By this name the approval of a run's gated tools as a whole is meant, and that of a tool plan."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What is supposed. `failures` are error types by name, `signals` payloads by signal or event, in order.

    `approved` None: people agree to everything that is not in `rejected`; else to what it names alone, and the rest
    stays open. `fields`: they are given in a request's fields, not by options of a command line, and named so.
    """

    inputs: Mapping[str, Any] = {}
    stubs: Mapping[str, Any] = {}
    failures: Mapping[str, str] = {}
    approved: frozenset[str] | None = None
    rejected: frozenset[str] = frozenset()
    signals: Mapping[str, tuple[Any, ...]] = {}
    fields: bool = False

    def named(self, kind: str, name: str, value: str = "") -> str:
        """Say how something is supposed of a name: `--stub fix=JSON`, or of a field's entry `stubs.fix`."""
        if not self.fields:
            return f"{OPTIONS[kind]} {name}" + (f"={value}" if value else "")
        return f"`{kind}`" if kind in LISTED else f"`{kind}.{name}`"

    def wrong(self, kind: str, name: str, message: str) -> ValidationError:
        """Make the error of what is supposed in vain."""
        if not self.fields:
            return ValidationError(f"{self.named(kind, name)}: {message}")
        field, said = (kind, f"{name}: {message}") if kind in LISTED else (f"{kind}.{name}", message)
        return ValidationError(f"{field}: {said}", details={"problems": [{"field": field, "message": said}]})

    def decision(self, name: str) -> str | None:
        """Give what people say to an approval: approve, reject, or nothing."""
        if name in self.rejected:
            return "reject"
        return "approve" if self.approved is None or name in self.approved else None

    def check(self, steps: Iterable[str], approvals: Iterable[str]) -> None:
        """Raise ValidationError for a name that the plan does not have: it would suppose nothing."""
        known, asked = set(steps), {*approvals, WHOLE_RUN}
        for kind, given in ((STUBS, list(self.stubs)), (FAIL, list(self.failures))):
            for name in given:
                read = NAME.match(name)
                if read is None or read["head"] not in known:
                    meant = hint(read["head"] if read else name, known)
                    raise self.wrong(kind, name, f"the plan has no such step{meant}")
        for kind, said in ((APPROVE, self.approved or frozenset()), (REJECT, self.rejected)):
            for name in sorted(said):
                if "/" not in name and name not in asked:
                    message = f"no approval is asked for there; asked are: {', '.join(sorted(asked))}"
                    raise self.wrong(kind, name, message)


def chosen[Value](given: Mapping[str, Value], path: str, step: str, index: int | None, iteration: int) -> Value | None:
    """Give what is supposed for an instance; `path` leads to its run, such as `child/`. What says most comes first."""
    names = (
        ids.instance(step, index, iteration),
        ids.instance(step, None, iteration),
        ids.instance(step, index),
        step,
    )
    return next((given[path + name] for name in names if path + name in given), None)
