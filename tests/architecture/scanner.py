"""The architecture scanner: rules of this code base that no linter knows, each with its remedy.

Run alone (`python tests/architecture/scanner.py [FOLDER]`) it prints `Execution scanner OK` and exits 0, or one
`path:line: rule: remedy` a finding and exits 1. Modelled on TigerBeetle's `tidy.zig`: a table of rules and one walk of
each file's tree. Exact rules stay cheap because each dangerous act has a name that is used for nothing else:
`append_events` writes the log, `perform` calls a tool. `test_scanner.py` shows that every rule bites.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
DECIDER_LINES_MAX = 250
OVERSIZED: dict[str, int] = {}
"""Files allowed to be longer, with their exact length: entries may only shrink, then go."""

SKIPPED = {".venv", ".git", ".headrace", "__pycache__", "node_modules", "build", "dist"}
SOURCE = ("shared/*", "services/*", "examples/*")
EVERYWHERE = ("*",)
PURE = (
    "*/compile/*",
    "*/decide.py",
    "*/evolve.py",
    "*/react.py",
    "*/policy.py",
    "*/expressions/*",
    "*/headrace_gatekeeper/gates/*",
    *(f"shared/headrace/{name}" for name in ("specs/*", "plans/*", "events/*", "log/tables.py")),
    *(f"shared/headrace/{name}.py" for name in ("messages", "ids", "codec", "keys", "errors", "vocabulary", "decider")),
)
PURE_MARK = "(pure)"
IMPURE_CALLS = {("", "open"), ("", "print"), ("", "input"), ("uuid", "uuid4"), ("", "uuid4"), ("os", "urandom")}
BUILTINS = (str, bytes, int, float, bool, dict, list, tuple, set)
BUILTIN_PATTERNS = {"Raw", "Mapping", "Sequence"} | {kind.__name__ for kind in BUILTINS}
CLOCKS = {("time", "time"), ("time", "monotonic"), ("time", "time_ns"), ("time", "monotonic_ns"), ("datetime", "now")}
NETWORK_AWAITS = {"request", "fetch", "flush", "ack_sync"}
SUBJECT = re.compile(r"headrace\.(trigger|inbox|command|work|claim|lines|feed|control|presence)(\.|$)")
SQL = re.compile(
    r"\s*(select\s.*\sfrom\s|select\s+\S+\(|insert\s+into\s|update\s.*\sset\s|delete\s+from\s)",
    re.IGNORECASE | re.DOTALL,
)
SQL_REWRITES_LOG = re.compile(r"(?<!before )(?<!or )\b(update\s+events\b|delete\s+from\s+events\b)", re.IGNORECASE)
UNDONE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
IGNORED = re.compile(r"#\s*(type:\s*ignore|noqa)(?P<rest>.*)", re.IGNORECASE)
IGNORED_WELL = re.compile(r"(\[[\w, -]+\]|:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)[\s#(:-]+\w.{3,}")
FACT = "past tense, frozen, with a tag, and one docstring line `Written when ...`"
PAST = re.compile(r"[a-z](ed|Kept|Made|Begun|Sent|Lost|Done|Taken|Given|Met|Held|Put|Set|Ready)$")


@dataclass(frozen=True)
class File:
    """A Python file: its path below the root, its text, whether it must be pure, and each node's parent."""

    path: str
    text: str
    tree: ast.Module
    pure: bool
    parents: dict[ast.AST, ast.AST]


@dataclass(frozen=True)
class Rule:
    """What is looked for, where, with the files that may, and what to do instead."""

    name: str
    remedy: str
    bites: Callable[[ast.AST, File], bool]
    where: tuple[str, ...] = SOURCE
    homes: tuple[str, ...] = ()

    def applies(self, path: str) -> bool:
        """Tell whether a file is held to this rule."""
        return _matches(path, self.where) and not _matches(path, self.homes)


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def _called(node: ast.AST) -> tuple[str, str]:
    """Give the last two names of a call, such as ("asyncio", "gather"); the first is empty for a plain name."""
    if not isinstance(node, ast.Call):
        return "", ""
    return _dotted(node.func)


def _dotted(node: ast.AST) -> tuple[str, str]:
    match node:
        case ast.Name(id=name):
            return "", name
        case ast.Attribute(value=owner, attr=name):
            return _dotted(owner.func)[1] if isinstance(owner, ast.Call) else _dotted(owner)[1], name
        case _:
            return "", ""


def _text(node: ast.AST, file: File) -> str | None:
    """Give a string constant, unless it is a docstring."""
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return None
    return None if isinstance(file.parents.get(node), ast.Expr) else node.value


def _imports(node: ast.AST, *names: str) -> bool:
    return isinstance(node, ast.ImportFrom) and any(f"{node.module}.{alias.name}" in names for alias in node.names)


def appends_events(node: ast.AST, _file: File) -> bool:
    """A call that writes the log."""
    return _called(node)[1] == "append_events"


def performs_tool(node: ast.AST, _file: File) -> bool:
    """A call that performs a tool, also under the names that plug-ins use."""
    owner, name = _called(node)
    return name == "perform" or (name == "run" and owner in {"plugin", "plug_in", "tool"})


def writes_sql(node: ast.AST, file: File) -> bool:
    """A string that is a statement."""
    text = _text(node, file)
    return text is not None and SQL.match(text) is not None


def reads_clock(node: ast.AST, _file: File) -> bool:
    """A read of the time."""
    return _called(node) in CLOCKS or _imports(node, *(".".join(clock) for clock in CLOCKS))


def reads_environment(node: ast.AST, _file: File) -> bool:
    """A read of the environment."""
    return (isinstance(node, ast.Attribute) and _dotted(node) in {("os", "environ"), ("os", "getenv")}) or _imports(
        node, "os.environ", "os.getenv"
    )


def names_subject(node: ast.AST, file: File) -> bool:
    """A string that is a NATS subject."""
    text = _text(node, file)
    return text is not None and SUBJECT.match(text) is not None


def names_metric(node: ast.AST, _file: File) -> bool:
    """A metric or span that is named on the spot."""
    makers = {"Counter", "Gauge", "Histogram", "Summary", "Info", "start_span", "start_as_current_span"}
    makers |= {"create_counter", "create_histogram", "create_gauge", "create_up_down_counter"}
    if not isinstance(node, ast.Call) or _called(node)[1] not in makers or not node.args:
        return False
    first = node.args[0]
    return isinstance(first, ast.Constant) and isinstance(first.value, str)


def patches(node: ast.AST, _file: File) -> bool:
    """A patch of somebody else's name."""
    owner, name = _called(node)
    return (owner, name) in {("monkeypatch", "setattr"), ("mock", "patch"), ("mocker", "patch")} or (
        isinstance(node, ast.Import | ast.ImportFrom) and "unittest.mock" in ast.unparse(node)
    )


def loses_task(node: ast.AST, _file: File) -> bool:
    """A task that nobody waits for, or a gather that leaves its others running when one fails."""
    owner, name = _called(node)
    loops = {"asyncio", "loop", "_loop", "get_running_loop", "get_event_loop"}
    lost = {"asyncio.create_task", "asyncio.gather", "asyncio.ensure_future"}
    return (owner in loops and name in {"create_task", "gather", "ensure_future"}) or _imports(node, *lost)


def waits_for_ever(node: ast.AST, file: File) -> bool:
    """A network call awaited without a timeout, or a client or pool made without one."""
    if isinstance(node, ast.Call) and _called(node)[1] in {"AsyncClient", "create_pool"}:
        return not any(word.arg in {"timeout", "command_timeout", None} for word in node.keywords)
    if not (isinstance(node, ast.Await) and isinstance(node.value, ast.Call) and "/bus/" in file.path):
        return False
    name, given = _called(node.value)[1], node.value
    bounded = any(word.arg == "timeout" for word in given.keywords) or (name == "flush" and given.args)
    return name in NETWORK_AWAITS and not bounded and not _inside_timeout(node, file)


def _inside_timeout(node: ast.AST, file: File) -> bool:
    above = file.parents.get(node)
    while above is not None:
        if isinstance(above, ast.AsyncWith) and any("timeout" in ast.unparse(item) for item in above.items):
            return True
        above = file.parents.get(above)
    return False


def swallows(node: ast.AST, _file: File) -> bool:
    """An `except` for everything that does not raise, or `suppress(Exception)`."""
    if _called(node)[1] == "suppress" and isinstance(node, ast.Call):
        return any(_dotted(kind)[1] in {"Exception", "BaseException"} for kind in node.args)
    if not isinstance(node, ast.ExceptHandler):
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    wide = any(kind is None or _dotted(kind)[1] in {"Exception", "BaseException"} for kind in kinds)
    return wide and not any(isinstance(e, ast.Raise) or _called(e)[1] == "set_exception" for e in ast.walk(node))


def touches_world(node: ast.AST, file: File) -> bool:
    """Waiting, drawing or printing in a pure module."""
    if not file.pure:
        return False
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"random", "secrets"}:
        return True
    return isinstance(node, ast.AsyncFor | ast.AsyncWith | ast.Await) or _called(node) in IMPURE_CALLS


def keeps_state(node: ast.AST, file: File) -> bool:
    """A module of pure functions that remembers something."""
    if not file.pure:
        return False
    if isinstance(node, ast.Global | ast.Nonlocal):
        return True
    if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(file.parents.get(node), ast.Module):
        return False
    mutable = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
    final = isinstance(node, ast.AnnAssign) and "Final" in ast.unparse(node.annotation)
    return isinstance(node.value, mutable) and not final


def leaves_match_open(node: ast.AST, file: File) -> bool:
    """A match in a pure module that a new member of its union would fall through."""
    if not (file.pure and isinstance(node, ast.Match)):
        return False
    classes, last = (
        {_dotted(found.cls)[1] for found in ast.walk(node) if isinstance(found, ast.MatchClass)},
        node.cases[-1],
    )
    catches_all = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None and last.guard is None
    if classes & BUILTIN_PATTERNS or (
        not classes and not any(isinstance(inner, ast.Attribute) for inner in _values(node))
    ):
        return not catches_all  # what JSON or a text may be is no closed union
    refuses = any(_called(inner)[1] == "assert_never" or isinstance(inner, ast.Raise) for inner in ast.walk(last))
    return not (catches_all and refuses)


def _values(node: ast.Match) -> Iterator[ast.AST]:
    """Give what the cases compare with: an attribute there, such as `Status.RUNNING`, means a closed enumeration."""
    return (inner.value for case in node.cases for inner in ast.walk(case.pattern) if isinstance(inner, ast.MatchValue))


def imports_in_package(node: ast.AST, file: File) -> bool:
    """An import of ours in an `__init__`, which every submodule would inherit; one in a function is only made when asked."""
    ours = isinstance(node, ast.Import | ast.ImportFrom) and "headrace" in ast.unparse(node)
    return file.path.endswith("__init__.py") and ours and isinstance(file.parents.get(node), ast.Module)


def is_no_event(node: ast.AST, _file: File) -> bool:
    """An event that is not past tense, frozen, tagged, and described by when it is written."""
    if not isinstance(node, ast.ClassDef) or not any(_dotted(base)[1] == "Event" for base in node.bases):
        return False
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    described = (ast.get_docstring(node) or "").startswith("Written ")
    single = "\n" not in (ast.get_docstring(node) or "")
    return not (PAST.search(node.name) and given.get("frozen") == "True" and "tag" in given and described and single)


HOME = "shared/headrace/"
APPENDERS = (
    HOME + "host/*",
    HOME + "log/*",
    HOME + "testing/simulation/storage.py",  # a connection that loses calls and answers passes them on
)
TOOL_RUNNER = HOME + "worker/tool_runner.py"
PERFORMERS = (TOOL_RUNNER, HOME + "testing/contracts.py")  # the suite that plug-ins are tried by
BOUNDARIES = (  # where code that is not ours, or a whole request, is called
    HOME + "serving.py",  # a service's outer boundary
    "services/api/headrace_api/front.py",  # so is this, a request each
    HOME + "bus/handling.py",  # and this, a message each: it comes again
    HOME + "bus/quick.py",  # and what hears a message: the connection goes on
    TOOL_RUNNER,  # whatever a tool raises is its attempt's error
    HOME + "worker/adapter.py",  # what a gate raises is its outcome `error`
    HOME + "worker/registry.py",  # a plug-in that does not load is listed
    HOME + "worker/results.py",  # a plug-in's exception may fail at its own text
)
EVENTS = (HOME + "events/*",)

RULES = (
    Rule("events are appended in one place", "send a command to the owner", appends_events, homes=APPENDERS),
    Rule("tools are performed in one place", "hand a WorkOrder to ToolRunner", performs_tool, homes=PERFORMERS),
    Rule("no SQL in Python", "give the statement a name in a .sql file", writes_sql),
    Rule("one reader of the clock", "take a Clock", reads_clock, homes=(HOME + "clock.py",)),
    Rule("one reader of the environment", "take a Config", reads_environment, homes=(HOME + "config.py",)),
    Rule("subjects have one home", "name it in bus/subjects.py", names_subject, homes=(HOME + "bus/subjects.py",)),
    Rule("metrics and spans have one home", "name it in telemetry.py", names_metric, homes=(HOME + "telemetry.py",)),
    Rule("nothing is patched", "pass a fake that keeps the port's interface", patches, where=EVERYWHERE),
    Rule("no task is lost", "use asyncio.TaskGroup", loses_task),
    Rule("nothing waits for ever", "give timeout= or stand in asyncio.timeout", waits_for_ever),
    Rule("errors are not swallowed", "name the errors, or raise again", swallows, homes=BOUNDARIES),
    Rule("pure modules touch nothing", "bring the answer in with the command", touches_world),
    Rule("pure modules keep nothing", "make it Final and constant, or part of the state", keeps_state),
    Rule("a match is closed", "end it with `case _: assert_never(value)`", leaves_match_open),
    Rule("packages import nothing", "import from the module itself", imports_in_package, where=EVERYWHERE),
    Rule("an event is a fact", FACT, is_no_event, where=EVENTS, homes=(HOME + "events/base.py",)),
)


def python_file(root: Path, path: Path) -> File:
    """Read and parse a file; raises SyntaxError."""
    name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
    tree = ast.parse(text, filename=name)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    pure = _matches(name, SOURCE) and (_matches(name, PURE) or PURE_MARK in (ast.get_docstring(tree) or ""))
    return File(name, text, tree, pure, parents)


def by_rules(file: File) -> Iterator[str]:
    """Find what the table of rules forbids."""
    rules = [rule for rule in RULES if rule.applies(file.path)]
    for node in ast.walk(file.tree):
        for rule in rules:
            if rule.bites(node, file):
                yield f"{file.path}:{getattr(node, 'lineno', 1)}: {rule.name}: {rule.remedy}"


def by_size(file: File) -> Iterator[str]:
    """Find files and functions that have grown too long."""
    lines = len(file.text.splitlines())
    decider = _matches(file.path, ("*/decide.py", "*/decide/*"))
    limit = OVERSIZED.get(file.path, DECIDER_LINES_MAX if decider else FILE_LINES_MAX)
    if lines > limit:
        yield f"{file.path}:1: a file has at most {limit} lines: this one has {lines}; split it by what it is about"
    if file.path in OVERSIZED and lines < limit:
        yield f"{file.path}:1: exceptions only shrink: set its entry in OVERSIZED to {lines}, or take it out"
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                where = f"{file.path}:{node.lineno}"
                yield f"{where}: a function has at most {FUNCTION_LINES_MAX} lines: {node.name} has {length}; split it"


def by_comments(file: File) -> Iterator[str]:
    """Find work left undone, and checks switched off without a code and a reason."""
    for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
        if token.type != tokenize.COMMENT:
            continue
        where = f"{file.path}:{token.start[0]}"
        if UNDONE.search(token.string):
            yield f"{where}: nothing is left undone: do it, or refuse it with a clear error"
        ignored = IGNORED.search(token.string)
        if ignored and not IGNORED_WELL.match(ignored["rest"]):
            yield f"{where}: an ignore says why: write its code and a reason, `# noqa: X123  (reason)`"


def in_sql(root: Path, path: Path) -> Iterator[str]:
    """Find statements that would rewrite the log."""
    name = path.relative_to(root).as_posix()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        code, _, comment = line.partition("--")
        if SQL_REWRITES_LOG.search(code):
            yield f"{name}:{number}: the log is append-only: write a new event"
        if UNDONE.search(comment):
            yield f"{name}:{number}: nothing is left undone: do it, or refuse it with a clear error"


def scan(root: Path) -> list[str]:
    """Give every finding below a folder, in order of path and line."""
    found: list[str] = []
    for path in sorted(root.rglob("*")):
        if SKIPPED & set(path.relative_to(root).parts):
            continue
        if path.suffix == ".py":
            try:
                file = python_file(root, path)
            except SyntaxError as problem:
                found.append(f"{path.relative_to(root)}:{problem.lineno}: not Python: {problem.msg}")
                continue
            found += [*by_rules(file), *by_size(file), *by_comments(file)]
        elif path.suffix == ".sql":
            found += in_sql(root, path)
    return found


def main(arguments: list[str]) -> int:
    """Scan a folder (this repository, unless one is named), print what was found, and give the exit code."""
    found = scan((Path(arguments[0]) if arguments else Path(__file__).parents[2]).resolve())
    sys.stdout.write("\n".join([*found, ""]) if found else "Execution scanner OK\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
