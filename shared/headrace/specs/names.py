"""The words that documents may use, their older spellings, and what is not built yet (pure)."""

import re
from typing import Final

API_VERSION: Final = "headrace/v1"
WORKFLOW: Final = "Workflow"
TOOL_PLAN: Final = "ToolPlan"
DASHBOARD: Final = "Dashboard"
KINDS: Final = (WORKFLOW, TOOL_PLAN, DASHBOARD)
KINDS_LATER: Final = frozenset({"Recipe", "Agent", "Policy", "Settings"})
KIND_ALIASES: Final = {"ToolSpec": WORKFLOW, "Pipeline": WORKFLOW, "ExecutionPlan": TOOL_PLAN}

STEP_KINDS: Final = (
    "tool",
    "http",
    "integration",
    "transform",
    "map",
    "gate",
    "approval",
    "wait",
    "loop",
    "sub_workflow",
    "condition",
)
STEP_KINDS_LATER: Final = frozenset({"agent", "skill", "code"})
STEP_KIND_ALIASES: Final = {
    "conditional": "condition",
    "action": "integration",
    "query": "integration",
    "subworkflow": "sub_workflow",
    "workflow": "sub_workflow",
}
SPEC_FIELDS_LATER: Final = frozenset({"budget", "rate_limit"})
TRIGGERS: Final = frozenset({"event"})
TRIGGERS_LATER: Final = frozenset(
    {"schedule", "cron", "webhook", "file_watch", "state_condition", "stage_transition", "integration_event"}
)
AUTOMATION_LATER: Final = frozenset({"auto_notify"})
ON_FAILURE_LATER: Final = frozenset({"revert", "create_questions", "review_required"})

GATES: Final = ("file_exists", "content_check", "artifact_exists", "metric_threshold", "expression")
GATE_ALIASES: Final = {"sections_exist": "content_check", "jury_score": "metric_threshold", "custom": "expression"}
GATES_LATER: Final = frozenset({"tool_check", "llm_check"})
JURY_SCORE: Final = "jury_score"

INPUT_TYPES: Final = ("any", "string", "integer", "number", "boolean", "array", "object")
INPUT_TYPE_ALIASES: Final = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "list": "array",
    "map": "object",
    "dict": "object",
}
PRECONDITION: Final = re.compile(r"\s*(file exists|file missing|directory exists)\s+\S.*", re.DOTALL)
PRECONDITIONS: Final = "'file exists PATH', 'file missing PATH' or 'directory exists PATH'"
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
STEP_ID: Final = re.compile(r"[a-z][a-z0-9_]*")
TRIGGER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
NAME_CHARS_MAX: Final = 100
STEP_ID_CHARS_MAX: Final = 100
TRIGGER_NAME_CHARS_MAX: Final = 200
SIGNAL_NAME_CHARS_MAX: Final = 100
QUORUM_MAX: Final = 20

_HUMP: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")


def snake(name: str) -> str:
    """Give a camelCase name in snake_case."""
    return _HUMP.sub(lambda found: "_" + found[1].lower(), name)


ERROR_TYPES: Final = (
    "budget_exceeded",
    "concurrency_limit",
    "conflict",
    "execution_error",
    "expression_error",
    "integration_auth_error",
    "not_found",
    "precondition_failed",
    "rate_limited",
    "timeout",
    "tool_error",
    "unavailable",
    "upstream_error",
    "validation_error",
    "worker_lost",
)
"""The types of errors that attempts end with, of ours; tools may have others."""
