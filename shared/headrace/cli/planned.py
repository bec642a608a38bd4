"""Plans as people read them: table, tree, who must approve, and what differs."""

from typing import Any

import msgspec

from headrace.cli.options import Out, show, show_table
from headrace.plans.diff import diff
from headrace.plans.model import Plan
from headrace.plans.show import HEADER, approvals_text, fused_text, rows, tree_text


def read(body: dict[str, Any]) -> Plan:
    """Read the plan of an answer."""
    return msgspec.convert(body["plan"], Plan)


def show_plan(body: dict[str, Any]) -> None:
    """Print a plan: its digest, a row for each step, what needs what, and whose approval."""
    plan = read(body)
    print(f"{plan.kind} {plan.name}")
    print(f"digest {body['digest']}\n")
    show_table(HEADER, [row.cells() for row in rows(plan)])
    print(f"\n{tree_text(plan)}\n")
    for sentence in (*approvals_text(plan), *fused_text(plan)):
        print(sentence)
    status = (body.get("authorization") or {}).get("status", "none")
    if status != "none":
        print(f"Its standing authorisation is {status}.")


def show_diff(old: dict[str, Any], new: dict[str, Any], output: Out) -> None:
    """Print what differs between two plans."""
    found = diff(read(old), read(new))
    show(output, msgspec.to_builtins(found), lambda: print(found.text()))
