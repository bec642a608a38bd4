"""Bringing a document into its canonical form (pure)."""

from typing import Any, Final

from headrace import codec
from headrace.expressions.near import hint, meant
from headrace.specs import forms, names
from headrace.specs.forms import Found, fields_of, renamed
from headrace.specs.models import DashboardSpec, Metadata, Step, ToolPlanSpec, Trigger, WorkflowSpec
from headrace.specs.problems import Path

ENVELOPE: Final = frozenset({"apiVersion", "kind", "metadata", "spec"})
STEP_FIELDS: Final = fields_of(Step) | {"type", "config", "then", "else"}
ACTING: Final = tuple(kind for kind in names.STEP_KINDS if kind not in {"map", "condition"})
IN_A_MAP: Final = frozenset({"tool", "http", "integration", "transform", "sub_workflow"})
STEP_ALIASES: Final = {
    **{alias: kind for alias, kind in names.STEP_KIND_ALIASES.items() if kind in names.STEP_KINDS},
    "when": "condition",
    "if": "condition",
    "undo": "compensate",
    "item_error": "on_item_error",
    "max_concurrency": "concurrency",
}


def envelope(written: Any, found: Found) -> dict[str, Any]:
    """Give the document's four parts; what else stands beside them is a problem."""
    if not isinstance(written, dict):
        found.problem((), "a document is a mapping with apiVersion, kind, metadata and spec")
        return {}
    value = renamed(written, ENVELOPE, {"api_version": "apiVersion"}, (), found)
    for key in value:
        if key not in ENVELOPE:
            found.problem((key,), f"unknown field {key!r}{hint(key, ENVELOPE)}")
    result = {key: value[key] for key in value if key in ENVELOPE}
    if result.get("apiVersion") != names.API_VERSION:
        given = f"not {result['apiVersion']!r}" if "apiVersion" in result else "and is missing"
        found.problem(("apiVersion",), f"apiVersion must be {names.API_VERSION!r}, {given}")
    result["kind"] = _document_kind(result.get("kind"), found)
    if isinstance(result.get("metadata"), dict):
        result["metadata"] = renamed(result["metadata"], fields_of(Metadata), {}, ("metadata",), found)
    return result


def _document_kind(written: Any, found: Found) -> Any:
    there = f"there are: {', '.join(names.KINDS)}"
    if written is not None and not isinstance(written, str):
        found.problem(("kind",), f"kind must be a text, not {codec.type_of(written)}; {there}")
        return None
    kind = names.KIND_ALIASES.get(written or "", written)
    if kind in names.KINDS_LATER:
        found.problem(("kind",), f"kind {kind!r} is not built yet; {there}")
    elif kind not in names.KINDS:
        said = f"unknown kind {kind!r}" if kind else "kind is missing"
        found.problem(("kind",), f"{said}{meant(kind or '', names.KINDS) or f'; {there}'}")
    return kind


def workflow(spec: dict[str, Any], found: Found) -> dict[str, Any]:
    """Give a workflow's spec; steps come later, one by one."""
    spec = _spec(spec, fields_of(WorkflowSpec), found)
    for name, later in (("automation", names.AUTOMATION_LATER), ("on_failure", names.ON_FAILURE_LATER)):
        if isinstance(spec.get(name), str) and spec[name] in later:
            found.problem(("spec", name), f"{name} {spec.pop(name)!r} is not built yet")
    if isinstance(spec.get("concurrency"), int | str | dict):
        spec["concurrency"] = forms.concurrency(spec["concurrency"], ("spec", "concurrency"), found)
    if isinstance(spec.get("triggers"), list):
        spec["triggers"] = _triggers(spec["triggers"], ("spec", "triggers"), found)
    return spec


def tool_plan(spec: dict[str, Any], found: Found) -> dict[str, Any]:
    """Give a tool plan's spec; `tools` is another word for its steps."""
    return _spec(spec, fields_of(ToolPlanSpec), found, {"tools": "steps"})


def dashboard(spec: dict[str, Any], found: Found) -> dict[str, Any]:
    """Give a dashboard's spec."""
    spec = _spec(spec, fields_of(DashboardSpec), found)
    for group in ("metrics", "views"):
        if isinstance(spec.get(group), list):
            spec[group] = [_shown(item, ("spec", group, number), found) for number, item in enumerate(spec[group])]
    return spec


def _spec(
    written: dict[str, Any], known: frozenset[str], found: Found, aliases: dict[str, str] | None = None
) -> dict[str, Any]:
    spec = renamed(written, known | names.SPEC_FIELDS_LATER, aliases or {}, ("spec",), found)
    for later in sorted(names.SPEC_FIELDS_LATER & spec.keys()):
        if isinstance(spec[later], int) and spec[later] <= 0:
            found.problem(("spec", later), f"{later} must be more than 0; and it is not built yet")
        else:
            found.problem(("spec", later), f"{later} is not built yet")
        del spec[later]
    if isinstance(spec.get("inputs"), dict):
        spec["inputs"] = {name: _input(item, ("spec", "inputs", name), found) for name, item in spec["inputs"].items()}
    return {key: item for key, item in spec.items() if item is not None or key not in {"inputs", "triggers"}}


def _input(value: Any, path: Path, found: Found) -> Any:
    if value is None:
        return {}
    if isinstance(value, str):
        value = {"type": value}
        found.moved((*path, "type"), path)
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        return {**value, "type": names.INPUT_TYPE_ALIASES.get(value["type"], value["type"])}
    return value


def _triggers(values: list[Any], path: Path, found: Found) -> list[Any]:
    kept: list[Any] = []
    for number, item in enumerate(values):
        trigger = _trigger(item, (*path, number), found)
        if trigger is not None:
            found.moved((*path, len(kept)), (*path, number))
            kept.append(trigger)
    return kept


def _trigger(value: Any, path: Path, found: Found) -> Any:
    if not isinstance(value, dict):
        return value
    value = renamed(value, fields_of(Trigger), {"name": "event"}, path, found)
    kind = value.get("type", "event" if "event" in value else None)
    if isinstance(kind, str) and kind in names.TRIGGERS_LATER:
        found.problem((*path, "type"), f"trigger type {kind!r} is not built yet; there is: event")
        return None
    if kind == "manual":
        found.problem((*path, "type"), "every workflow can be started by hand; leave this trigger out")
        return None
    result = {**value, "type": kind}
    if "when" in result:
        result["when"] = forms.bare(result["when"])
    return result


def _shown(value: Any, path: Path, found: Found) -> Any:
    """Give a metric or view: `metricId` is an older spelling, a sort may be spelled out."""
    if not isinstance(value, dict):
        return value
    known = frozenset({"id", "type", "title", "metric", "source", "columns", "sort", "limit", "aggregate", "field"})
    result = renamed(value, known, {"metric_id": "metric", "name": "title"}, path, found)
    sort = result.get("sort")
    if isinstance(sort, dict) and isinstance(sort.get("field"), str):
        descending = str(sort.get("direction", sort.get("order", "asc"))).startswith("desc")
        result["sort"] = f"-{sort['field']}" if descending else sort["field"]
    source = result.get("source")
    if isinstance(source, dict) and "name" in source and "integration" not in source:
        result["source"] = {"integration": source["name"], **{key: source[key] for key in source if key != "name"}}
    return result


def step(written: Any, path: Path, found: Found) -> dict[str, Any] | None:
    """Give a step in canonical form, or None when it has no kind that is built (which is noted)."""
    if not isinstance(written, dict):
        found.problem(path, "a step is a mapping with an id and a key that names its kind")
        return None
    usable = _refuse_later(written, path, found)
    value = renamed(written, STEP_FIELDS, STEP_ALIASES, path, found)
    if not usable:
        return None
    long_form = "type" in value or "config" in value
    short = _short_form(value, path, found) if long_form else value
    kind = None if short is None else _kind(short, path, found)
    if short is None or kind is None:
        return None
    return _surroundings(_body(short, kind, path, found), path, found)


def _surroundings(value: dict[str, Any], path: Path, found: Found) -> dict[str, Any]:
    if "depends_on" in value:
        value["depends_on"] = [] if value["depends_on"] is None else forms.listed(value["depends_on"])
    if "retry" in value:
        value["retry"] = forms.retry(value["retry"], (*path, "retry"), found)
    if isinstance(value.get("timeout"), dict):
        forms.timeouts(value, path, found)
    if "compensate" in value:
        value["compensate"] = forms.compensation(value["compensate"], (*path, "compensate"), found)
    if isinstance(value.get("condition"), str):
        value["condition"] = forms.bare(value["condition"])
    return value


def _refuse_later(value: dict[str, Any], path: Path, found: Found) -> bool:
    usable = True
    for key in value:
        word = names.STEP_KIND_ALIASES.get(names.snake(key), names.snake(key))
        if word in names.STEP_KINDS_LATER:
            found.problem((*path, key), f"step kind {key!r} is not built yet; there are: {', '.join(names.STEP_KINDS)}")
            usable = False
    return usable


def _short_form(value: dict[str, Any], path: Path, found: Found) -> dict[str, Any] | None:
    """Turn `type` and `config` into the key that names the kind."""
    kind = forms.kind_name(value.pop("type", "missing"), (*path, "type"), found)
    config = value.pop("config", {})
    if kind is None:
        return None
    if kind in value and not (kind == "condition" and isinstance(value["condition"], str)):
        found.problem((*path, "type"), f"the step gives {kind} both as a key and as its type")
        return None
    below = {**config} if isinstance(config, dict) else config
    if isinstance(below, dict) and kind == "tool":
        value["tool"] = below.pop("tool", below.pop("name", None))
        value.update(renamed(below, STEP_FIELDS, {"arguments": "with", "params": "with"}, (*path, "config"), found))
    elif isinstance(below, dict) and kind == "map":
        value["map"] = below.pop("map", below.pop("items", below.pop("over", below.pop("list", None))))
        value.update(renamed(below, STEP_FIELDS, {}, (*path, "config"), found))
    elif isinstance(below, dict) and kind == "transform" and set(below) == {"value"}:
        value["transform"] = below["value"]
    elif kind == "condition" and isinstance(value.get("condition"), str):
        found.problem((*path, "condition"), "a condition step states its expression in config")
        return None
    else:
        value[kind] = below
    found.moved((*path, kind), (*path, "config"))
    return value


def _kind(value: dict[str, Any], path: Path, found: Found) -> str | None:
    acting = [kind for kind in ACTING if kind in value]
    if len(acting) > 1:
        found.problem(path, f"a step has one kind; this one names {' and '.join(acting)}")
        return None
    if "map" in value and (not acting or acting[0] not in IN_A_MAP):
        found.problem((*path, "map"), f"a map step also needs one of {', '.join(sorted(IN_A_MAP))}, done once per item")
        return None
    if acting:
        return acting[0]
    if "condition" in value:
        return "condition"
    unknown = [key for key in value if key not in STEP_FIELDS]
    if unknown:
        found.problem((*path, unknown[0]), f"unknown field {unknown[0]!r}{hint(unknown[0], STEP_FIELDS)}")
    found.problem(path, f"a step needs a key that names its kind: {', '.join(names.STEP_KINDS)}")
    return None


def _body(value: dict[str, Any], kind: str, path: Path, found: Found) -> dict[str, Any]:
    place = (*path, kind)
    match kind:
        case "gate":
            body = forms.gate(value["gate"], place, found)
            if isinstance(body, dict) and body.get("type") == "approval":
                del value["gate"]
                found.moved((*path, "approval"), place)
                value["approval"] = forms.approval(body["config"], place, found)
            else:
                value["gate"] = body
        case "approval":
            value["approval"] = forms.approval(value["approval"], place, found)
        case "wait":
            value["wait"] = forms.wait(value["wait"], place, found)
        case "loop":
            value["loop"] = forms.loop(value["loop"], place, found)
        case "sub_workflow":
            value["sub_workflow"] = forms.sub_workflow(value["sub_workflow"], place, found)
            if isinstance(value["sub_workflow"], dict) and "with" in value:
                value["sub_workflow"].setdefault("with", value.pop("with"))
                found.moved((*place, "with"), (*path, "with"))
        case "http":
            value["http"] = _with_arguments(forms.http(value["http"], place, found), value, path, kind, found)
        case "integration":
            value["integration"] = forms.call(value["integration"], place, found)
            if isinstance(value["integration"], dict) and "with" in value:
                value["integration"].setdefault("with", value.pop("with"))
                found.moved((*place, "with"), (*path, "with"))
        case "condition":
            value["condition"] = _choice(value, path, found)
        case _:
            pass
    return value


def _with_arguments(body: Any, value: dict[str, Any], path: Path, kind: str, found: Found) -> Any:
    """Put `with` into the body of a kind whose arguments it holds."""
    if isinstance(body, dict) and isinstance(value.get("with"), dict):
        for key, item in value.pop("with").items():
            if key not in body:
                body[key] = item
                found.moved((*path, kind, key), (*path, "with", key))
    return body


def _choice(value: dict[str, Any], path: Path, found: Found) -> Any:
    condition = value["condition"]
    if isinstance(condition, str):
        condition = {"expression": condition}
        found.moved((*path, "condition", "expression"), (*path, "condition"))
    if isinstance(condition, dict):
        condition = dict(condition)
        for branch in ("then", "else"):
            if branch in value:
                condition.setdefault(branch, value.pop(branch))
                found.moved((*path, "condition", branch), (*path, branch))
    return forms.choice(condition, (*path, "condition"), found)
