"""One CEL expression: parsed once, evaluated against a scope of recorded values (pure).

The library converts every value it is given (measured: 1 to 3 ms per 1000 values of nested maps), so an expression is
given the parts that it names and no more. What is common is evaluated without it, on the values themselves: a plain path
such as `steps.gather.output.items[0].name` is walked, with the same result and the same errors; the rest of the common
part is `direct.py`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from headrace.errors import StepError, ValidationError
from headrace.expressions import direct, library, values
from headrace.expressions.functions import FUNCTIONS, type_name
from headrace.expressions.near import hint
from headrace.expressions.references import Analysis, Path, Segment, analyse, unknown_function
from headrace.expressions.scope import STEPS, Scope
from headrace.expressions.series import Series

EXPRESSION_CHARS_MAX: Final = 16_384
CACHE_ENTRIES_MAX: Final = 4_096
EXPRESSION_ERROR: Final = "expression_error"
FAILURES: Final = (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError)
"""What the library raises while it evaluates."""

_SYNTAX: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_FUNCTION: Final = re.compile(r"Function '(\w+)' error: (?:Python function call failed: (?:\w+: )?)?(.*)", re.DOTALL)
_ADVICE: Final = re.compile(r"\s*(Check (function|that).*|CEL does not coerce.*)", re.DOTALL)

Reference = tuple[str, str | None]
Tree = dict[Segment, "Tree"]


class Expression:
    """A parsed expression. `references` are its roots, and for `steps` which one: ("steps", "gather")."""

    __slots__ = ("_analysis", "_direct", "_functions", "_ordered", "_plain", "_program", "_tree", "references", "text")

    def __init__(self, text: str, program: Any, ordered: Any, analysis: Analysis) -> None:
        self.text = text
        self.references: frozenset[Reference] = frozenset(_reference(path) for path in analysis.paths)
        self._program = program
        self._ordered = ordered
        self._analysis = analysis
        self._plain = analysis.plain
        self._direct = direct.program(text) if analysis.paths else None
        self._tree = _tree(analysis.paths)
        spelled = {name.rsplit(".", 1)[-1]: name for name in FUNCTIONS if "." in name}
        names = ordered.functions() if ordered is not None else program.functions()
        used = {*names, *(spelled[name] for name in names if name in spelled)}
        self._functions = {name: FUNCTIONS[name] for name in sorted(used) if name in FUNCTIONS}

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    @property
    def constant(self) -> bool:
        """Tell whether the expression refers to nothing recorded."""
        return not self._analysis.paths

    @property
    def path(self) -> Path | None:
        """Give the path that the whole expression is, or None."""
        return self._analysis.plain

    @property
    def paths(self) -> tuple[Path, ...]:
        """Give every path that the expression refers to, as far as its keys are stated."""
        return self._analysis.paths

    def evaluate(self, scope: Scope) -> Any:
        """Give the value, as JSON. Raises StepError of type expression_error; a MissingError passes through."""
        if self._plain is not None:
            return self._walk(self._plain, scope)
        if self._direct is not None:
            try:
                return direct.sure(self._direct(scope, {}))
            except (direct.Unsure, RecursionError):
                pass  # the library is asked, and its errors are the ones to tell
        recorded = self._recorded(scope)
        program = self._ordered if self._ordered is not None and self._iterates_a_map(recorded) else self._program
        try:
            return values.plain(program.execute({**recorded, **self._functions}))
        except FAILURES as problem:
            why = _why(problem)
        self._explain_missing(scope)
        raise self._error(why)

    def holds(self, scope: Scope) -> bool:
        """Give the value of a condition; raises StepError also when it is neither true nor false."""
        value = self.evaluate(scope)
        if not isinstance(value, bool):
            why = f"gives {type_name(value)} where true or false is needed"
            raise self._error(why)
        return value

    def _recorded(self, scope: Scope) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for root, below in self._tree.items():
            if root == STEPS:
                given[STEPS] = {step: _pruned(self._step(str(step), scope), keys) for step, keys in below.items()}
            else:
                given[str(root)] = _pruned(self._root(str(root), scope), below)
        return given

    def _iterates_a_map(self, recorded: dict[str, Any]) -> bool:
        if self._analysis.always:
            return True
        for path in self._analysis.iterated:
            value: Any = recorded
            for key in path:
                try:
                    value = value[key]
                except (LookupError, TypeError):
                    break
            if not isinstance(value, list):
                return True
        return False

    def _walk(self, path: Path, scope: Scope) -> Any:
        keys = iter(path)
        root = str(next(keys))
        value = self._step(str(next(keys)), scope) if root == STEPS else self._root(root, scope)
        for key in keys:
            if type(value) is not dict or key not in value:
                return self._walk_on(path, scope)
            value = value[key]
        return values.given(value)

    def _walk_on(self, path: Path, scope: Scope) -> Any:
        """Walk a path that does not lead through dicts alone; raises StepError where it leads nowhere."""
        if path[0] == STEPS:
            value, begin = self._step(str(path[1]), scope), 2
        else:
            value, begin = self._root(str(path[0]), scope), 1
        for number in range(begin, len(path)):
            value = self._key(value, path, number)
        return values.given(value)

    def _key(self, value: Any, path: Path, number: int) -> Any:
        key = path[number]
        if isinstance(value, dict) and key in value:
            return value[key]
        where = _spelled(path[:number])
        if isinstance(value, Mapping):
            if key in value:
                return value[key]
            why = f"unknown key {key!r} in {where}{hint(str(key), map(str, value))}"
            raise self._error(why)
        if isinstance(value, list | tuple | Series) and isinstance(key, int):
            if key < len(value):
                return value[key]
            why = f"index {key} is out of bounds: {where} has {len(value)} elements"
            raise self._error(why)
        why = f"{where} is {type_name(value)} and has no {key!r}"
        raise self._error(why)

    def _root(self, name: str, scope: Scope) -> Any:
        try:
            return scope.root(name)
        except KeyError:
            pass
        why = f"there is no {name} here"
        raise self._error(why)

    def _step(self, step_id: str, scope: Scope) -> Any:
        try:
            return scope.step(step_id)
        except KeyError:
            pass
        why = f"unknown step {step_id!r}"
        raise self._error(why)

    def _explain_missing(self, scope: Scope) -> None:
        """Raise the error of the first path that leads nowhere, which says more than the library does."""
        if "has(" in self.text or "||" in self.text or "?" in self.text or " in " in self.text:
            return
        for path in self._analysis.paths:
            self._walk(path, scope)

    def _error(self, why: str) -> StepError:
        message = f"expression {self.text!r}: {why}"
        return StepError(message, type=EXPRESSION_ERROR, details={"expression": self.text, "reason": why})


@lru_cache(maxsize=CACHE_ENTRIES_MAX)
def parse(text: str) -> Expression:
    """Read an expression; raises ValidationError that names the expression and where it is wrong."""
    if len(text) > EXPRESSION_CHARS_MAX:
        message = f"an expression has {len(text)} characters; at most {EXPRESSION_CHARS_MAX} are allowed"
        raise ValidationError(message)
    try:
        program = library.compiled(text)
    except ValueError as problem:
        raise _syntax(text, str(problem)) from None
    unknown_function(text, program.functions())
    analysis = analyse(text)
    ordered = None if analysis.rewritten is None else library.compiled(analysis.rewritten)
    return Expression(text, program, ordered, analysis)


def _syntax(text: str, problem: str) -> ValidationError:
    found = _SYNTAX.search(problem)
    line, column = (int(found[1]), int(found[2])) if found else (1, 1)
    why = found[3].split(" expecting ")[0] if found else problem
    if "ecursion limit" in why:
        why = "nested too deeply"
    message = f"expression {text!r}: {why} (line {line}, column {column})"
    return ValidationError(message, details={"expression": text, "line": line, "column": column})


def _reference(path: Path) -> Reference:
    return (STEPS, str(path[1])) if path[0] == STEPS else (str(path[0]), None)


def _spelled(path: Path) -> str:
    text = str(path[0])
    for key in path[1:]:
        text += f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
    return text


def _tree(paths: tuple[Path, ...]) -> Tree:
    """Put the paths together; one that is the beginning of another stands for it, and a list is given whole."""
    tree: Tree = {}
    whole = sorted({_until_index(path) for path in paths}, key=len)
    for path in whole:
        if any(path[: len(shorter)] == shorter for shorter in whole if len(shorter) < len(path)):
            continue
        branch = tree
        for key in path:
            branch = branch.setdefault(key, {})
    return tree


def _until_index(path: Path) -> Path:
    """Cut a path before its first index (a step's id is never one)."""
    for number, key in enumerate(path):
        if isinstance(key, int):
            return path[:number]
    return path


def _pruned(value: Any, keys: Tree) -> Any:
    """Give of a recorded value what the tree names of it."""
    if not keys or not isinstance(value, Mapping):
        return values.given(value)
    return {key: _pruned(value[key], below) for key, below in keys.items() if key in value}


def _why(problem: Exception) -> str:
    text = str(problem)
    if isinstance(problem, KeyError):
        return f"unknown key {text}"
    if found := _FUNCTION.match(text):
        text = f"{found[1]}(): {found[2]}"
    if text.startswith("No such overload"):
        return "type error: the operation has no meaning for operands of these types; convert with string(x), int(x) …"
    return _ADVICE.sub("", text).rstrip(".") or text
