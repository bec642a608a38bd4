"""Bringing the parts of a step into their canonical form: older spellings, short and long forms (pure).

Nothing is judged here but what cannot be brought into the form; the models judge the rest.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from headrace.expressions.near import hint, meant
from headrace.specs import names
from headrace.specs.problems import Path
from headrace.vocabulary import RETRY_ATTEMPTS_DEFAULT

SLIP_SIMILARITY_MIN: Final = 0.85
"""From here on a word is taken for another one misspelt, where it might as well be a word of its own."""
OPERATOR_DEFAULT: Final = ">="
GATE_FIELDS: Final = frozenset({"type", "config", "required", "failure_message"})
BACKOFFS: Final[dict[str, dict[str, Any]]] = {"exponential": {}, "fixed": {"factor": 1.0}, "linear": {"factor": 1.0}}


@dataclass
class Found:
    """Problems by path of the canonical form, and where parts that moved stood in the document."""

    problems: list[tuple[Path, str]] = field(default_factory=list)
    moves: dict[Path, Path] = field(default_factory=dict)

    def problem(self, path: Path, message: str) -> None:
        """Note a problem."""
        self.problems.append((path, message))

    def moved(self, path: Path, source: Path) -> None:
        """Note that what stands at `path` of the canonical form stood at `source`."""
        if path != source:
            self.moves[path] = source


def renamed(
    value: dict[str, Any], known: frozenset[str], aliases: dict[str, str], path: Path, found: Found
) -> dict[str, Any]:
    """Give a mapping with older and camelCase spellings of known keys replaced."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        name = key if key in known else aliases.get(key, aliases.get(names.snake(key), names.snake(key)))
        name = name if name in known else key
        if name in result:
            found.problem((*path, key), f"{name} is given twice, once as {key}")
            continue
        result[name] = item
        found.moved((*path, name), (*path, key))
    return result


def fields_of(model: Any) -> frozenset[str]:
    """Give a model's field names as documents spell them."""
    return frozenset(info.alias or name for name, info in model.model_fields.items())


def bare(text: Any) -> Any:
    """Give the expression of a text that is one whole `{{ … }}`: conditions are bare CEL."""
    if isinstance(text, str):
        inner = text.strip()
        if inner.startswith("{{") and inner.endswith("}}") and inner.count("{{") == 1:
            return inner[2:-2].strip()
    return text


def listed(value: Any) -> Any:
    """Give a single text as a list of one."""
    return [value] if isinstance(value, str) else value


def gate(value: Any, path: Path, found: Found) -> Any:
    """Give a gate as type, config, required and failure_message; what stands beside them belongs to the config."""
    if not isinstance(value, dict):
        return value
    aliases = {"message": "failure_message", "gate": "type"}
    value = renamed(value, GATE_FIELDS, aliases, path, found)
    result = {key: value[key] for key in value if key in GATE_FIELDS}
    config = dict(result["config"]) if isinstance(result.get("config"), dict) else result.get("config", {})
    if isinstance(config, dict):
        for key, item in value.items():
            if key not in GATE_FIELDS and key not in {"id", "name"}:
                config[key] = item
                found.moved((*path, "config", key), (*path, key))
        config = {names.snake(key): item for key, item in config.items()}
        if "sections" in config:
            config.setdefault("required_sections", config.pop("sections"))
    kind = result.get("type")
    if isinstance(kind, str) and isinstance(config, dict):
        result["type"] = names.GATE_ALIASES.get(kind, kind)
        if kind == names.JURY_SCORE:
            config.setdefault("metric", names.JURY_SCORE)
            config.setdefault("operator", OPERATOR_DEFAULT)
        if result["type"] == "expression":
            config["expression"] = bare(config.get("expression"))
    result["config"] = config
    return result


def approval(value: Any, path: Path, found: Found) -> Any:
    """Give an approval; nothing at all means one approver."""
    if value is None or value is True:
        return {}
    if not isinstance(value, dict):
        return value
    known = frozenset({"roles", "quorum", "expires", "prompt"})
    return renamed(value, known, {"expiry": "expires", "expires_in": "expires", "role": "roles"}, path, found)


def wait(value: Any, path: Path, found: Found) -> Any:
    """Give a wait; a duration alone is a timer."""
    if not isinstance(value, dict):
        return {"timer": value}
    known = frozenset({"timer", "signal", "event", "run", "when", "timeout"})
    aliases = {"duration": "timer", "for": "timer", "expires": "timeout", "deadline": "timeout", "run_id": "run"}
    result = renamed(value, known, aliases, path, found)
    if "when" in result:
        result["when"] = bare(result["when"])
    return result


def loop(value: Any, path: Path, found: Found) -> Any:
    """Give a loop: its condition, the steps of its body, and how many rounds at most."""
    if not isinstance(value, dict):
        return value
    known = frozenset({"while", "steps", "max_iterations"})
    aliases = {"condition": "while", "body": "steps", "do": "steps", "cap": "max_iterations", "max": "max_iterations"}
    result = renamed(value, known, aliases, path, found)
    if "while" in result:
        result["while"] = bare(result["while"])
    if "steps" in result:
        result["steps"] = listed(result["steps"])
    return result


def sub_workflow(value: Any, path: Path, found: Found) -> Any:
    """Give a sub-workflow; a text is the workflow's name."""
    if isinstance(value, str):
        return {"workflow": value}
    if not isinstance(value, dict):
        return value
    return renamed(value, frozenset({"workflow", "with"}), {"name": "workflow", "inputs": "with"}, path, found)


def compensation(value: Any, path: Path, found: Found) -> Any:
    """Give what undoes a step: a call of a tool, an http request or an integration; a text is a tool's name."""
    if isinstance(value, str):
        return {"tool": value}
    if not isinstance(value, dict):
        return value
    known = frozenset({"tool", "http", "integration", "with", "timeout", "retry"})
    result = renamed(value, known, {"action": "integration", "query": "integration"}, path, found)
    if "http" in result:
        result["http"] = http(result["http"], (*path, "http"), found)
    if "integration" in result:
        result["integration"] = call(result["integration"], (*path, "integration"), found)
        if isinstance(result["integration"], dict) and "with" in result:
            result["integration"].setdefault("with", result.pop("with"))
            found.moved((*path, "integration", "with"), (*path, "with"))
    if "retry" in result:
        result["retry"] = retry(result["retry"], (*path, "retry"), found)
    return result


def timeouts(value: dict[str, Any], path: Path, found: Found) -> None:
    """Spread `timeout: {attempt, step, queue}` over the fields that bound each."""
    given = value.pop("timeout")
    for key, item in given.items():
        name = {"attempt": "timeout", "step": "step_timeout", "queue": "queue_timeout"}.get(str(key))
        if name is None:
            kinds = ("attempt", "step", "queue")
            found.problem((*path, "timeout", key), f"unknown timeout {key!r}{hint(str(key), kinds)}")
        elif name in value:
            found.problem((*path, "timeout", key), f"{name} is given twice")
        else:
            value[name] = item
            found.moved((*path, name), (*path, "timeout", key))


def concurrency(value: Any, path: Path, found: Found) -> Any:
    """Give how many runs may be under way; a number is the limit, a text the key."""
    if isinstance(value, int):
        return {"limit": value}
    if isinstance(value, str):
        return {"key": value}
    aliases = {"max": "limit", "group": "key", "max_runs": "limit", "policy": "on_conflict"}
    return renamed(value, frozenset({"key", "limit", "on_conflict"}), aliases, path, found)


def http(value: Any, path: Path, found: Found) -> Any:
    """Give a request; a text is its url."""
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, dict):
        return value
    known = frozenset({"method", "url", "headers", "query", "body", "follow_redirects"})
    result = renamed(value, known, {"params": "query", "json": "body"}, path, found)
    if isinstance(result.get("method"), str):
        result["method"] = result["method"].upper()
    return result


def call(value: Any, path: Path, found: Found) -> Any:
    """Give an integration's call; a text is `<integration>.<operation>`."""
    if isinstance(value, str):
        name, _, operation = value.partition(".")
        return {"name": name, "operation": operation}
    if not isinstance(value, dict):
        return value
    known = frozenset({"name", "operation", "with", "connection"})
    return renamed(value, known, {"integration": "name", "params": "with"}, path, found)


def choice(value: Any, path: Path, found: Found) -> Any:
    """Give what a condition step chooses between."""
    if not isinstance(value, dict):
        return value
    known = frozenset({"expression", "then", "else"})
    aliases = {
        "if": "expression",
        "condition": "expression",
        "otherwise": "else",
        "if_true": "then",
        "if_false": "else",
    }
    result = renamed(value, known, aliases, path, found)
    result["expression"] = bare(result.get("expression"))
    for branch in ("then", "else"):
        if branch in result:
            result[branch] = [] if result[branch] is None else listed(result[branch])
    return result


def retry(value: Any, path: Path, found: Found) -> Any:
    """Give a retry; a number is how often, nothing stands for the usual number."""
    if value is None or value is True:
        return {"max_attempts": RETRY_ATTEMPTS_DEFAULT}
    if isinstance(value, int):
        return {"max_attempts": value}
    if not isinstance(value, dict):
        return value
    known = frozenset({"max_attempts", "backoff", "strategy", "retry_on"})
    result = renamed(value, known, {"attempts": "max_attempts", "on": "retry_on"}, path, found)
    if "retry_on" in result:
        result["retry_on"] = listed(result["retry_on"])
        _misspelt(result["retry_on"], (*path, "retry_on"), found)
    if result.get("strategy") == "llm_self_correct":
        found.problem((*path, "strategy"), "the retry strategy llm_self_correct is not built yet; there is: simple")
        del result["strategy"]
    backoff = result.get("backoff")
    if isinstance(backoff, str):
        result["backoff"] = dict(BACKOFFS[backoff]) if backoff in BACKOFFS else {"initial": backoff}
    return result


def _misspelt(types: Any, path: Path, found: Found) -> None:
    """Note error types that are nearly one of ours: a tool may have types of its own, but a slip would retry nothing."""
    for number, text in enumerate(types if isinstance(types, list) else ()):
        slip = meant(text, names.ERROR_TYPES, SLIP_SIMILARITY_MIN) if isinstance(text, str) else ""
        if slip:
            found.problem((*path, number), f"unknown error type {text!r}{slip}")


def kind_name(word: Any, path: Path, found: Found) -> str | None:
    """Give the canonical word for a step's kind, or note why it is none."""
    kind = names.STEP_KIND_ALIASES.get(str(word), str(word))
    if kind in names.STEP_KINDS:
        return kind
    if kind in names.STEP_KINDS_LATER:
        found.problem(path, f"step kind {word!r} is not built yet; there are: {', '.join(names.STEP_KINDS)}")
        return None
    found.problem(path, f"unknown step kind {word!r}{hint(str(word), names.STEP_KINDS)}")
    return None
