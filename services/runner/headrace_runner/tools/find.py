"""Finding files by name and by what they hold; links are never followed."""

import re
from typing import Final

from pydantic import BaseModel, Field

from headrace.errors import HeadraceError, TooLargeError, ValidationError
from headrace.ports.tool import ToolContext
from headrace.vocabulary import MAP_ITEMS_MAX
from headrace.worker.file_root import FileRoot
from headrace_runner.tools.base import Arguments, FilePath, ReadTool
from headrace_runner.tools.globs import Glob

MATCHES_DEFAULT: Final = 1_000
MATCHES_MAX: Final = 100_000
SEARCHED_FILE_BYTES_MAX: Final = 8 * 1024 * 1024
LINE_CHARS_MAX: Final = 1_000


class GlobArguments(Arguments):
    """Which files: `**` crosses folders; names that begin with a dot must be asked for by a dot."""

    pattern: str = Field(min_length=1, max_length=4_096)
    root: FilePath = "."


class GlobResult(BaseModel):
    """The files found, in order of their paths below the file root."""

    paths: list[str]


class SearchArguments(Arguments):
    """A regular expression, and where to look for it line by line."""

    pattern: str = Field(min_length=1, max_length=4_096)
    glob: str = Field(default="**", min_length=1, max_length=4_096)
    root: FilePath = "."
    limit: int = Field(default=MATCHES_DEFAULT, ge=1, le=MATCHES_MAX)


class Match(BaseModel):
    """A line that matches; `line` counts from 1, `text` is cut at LINE_CHARS_MAX."""

    path: str
    line: int
    text: str


class SearchResult(BaseModel):
    """The matches by path and line; `complete` is false when the limit cut them off."""

    matches: list[Match]
    complete: bool


class FileGlob(ReadTool):
    """Lists files by a pattern."""

    name = "file_glob"
    description = "Lists the files below a folder that match a glob, sorted."
    input: type[BaseModel] = GlobArguments
    output: type[BaseModel] = GlobResult

    def perform(self, context: ToolContext, input: GlobArguments) -> GlobResult:
        """List; raises TooLargeError over MAP_ITEMS_MAX files, NotFoundError for a missing folder."""
        paths = files(FileRoot(context.root), input.root, input.pattern)
        context.source(f"file:{input.root}")
        return GlobResult(paths=paths)


class FileSearch(ReadTool):
    """Finds lines by a regular expression."""

    name = "file_search"
    description = "Finds the lines that match a regular expression in the files below a folder."
    input: type[BaseModel] = SearchArguments
    output: type[BaseModel] = SearchResult

    def perform(self, context: ToolContext, input: SearchArguments) -> SearchResult:
        """Search; files that are no text or over SEARCHED_FILE_BYTES_MAX are passed over and named in the log."""
        expression = _expression(input.pattern)
        root = FileRoot(context.root)
        matches: list[Match] = []
        complete = True
        for path in files(root, input.root, input.glob):
            if context.cancelled:
                break
            for match in _matches(root, path, expression, context):
                if len(matches) == input.limit:
                    complete = False
                    break
                matches.append(match)
            if not complete:
                break
        context.source(f"file:{input.root}", complete=complete)
        return SearchResult(matches=matches, complete=complete)


def files(root: FileRoot, folder: str, pattern: str) -> list[str]:
    """Give the files below a folder that match a glob, as sorted paths below the file root."""
    glob = Glob(pattern)
    prefix = "".join(f"{part}/" for part in root.parts(folder))
    found: list[str] = []
    for path in root.walk(folder, hidden=glob.hidden):
        if not glob.matches(path):
            continue
        found.append(prefix + path)
        if len(found) > MAP_ITEMS_MAX:
            message = f"{pattern!r} matches more than {MAP_ITEMS_MAX} files"
            raise TooLargeError(message, details={"pattern": pattern})
    return sorted(found)


def _expression(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as problem:
        message = f"{pattern!r} is no regular expression: {problem}"
        raise ValidationError(message, details={"pattern": pattern}) from problem


def _matches(root: FileRoot, path: str, expression: re.Pattern[str], context: ToolContext) -> list[Match]:
    try:
        text = root.read(path, SEARCHED_FILE_BYTES_MAX).decode()
    except (HeadraceError, UnicodeDecodeError) as problem:
        context.log(f"{path} was not searched: {problem}", level="warning")
        return []
    return [
        Match(path=path, line=number, text=line[:LINE_CHARS_MAX])
        for number, line in enumerate(text.split("\n"), start=1)
        if expression.search(line)
    ]
