"""The symbols of a Python source, found with tree-sitter's grammar through ast-grep."""

from typing import Any, Final

from ast_grep_py import SgRoot
from pydantic import BaseModel

from headrace.codec import sha256
from headrace.errors import ValidationError
from headrace.ports.tool import ToolContext
from headrace.worker.file_root import FileRoot
from headrace_runner.tools.base import ReadTool
from headrace_runner.tools.files import PathArguments, decoded

LANGUAGES: Final = {".py": "python", ".pyi": "python"}


class Symbol(BaseModel):
    """A definition: its name, `class`, `function` or `method`, its bytes in the file, and its line from 1."""

    name: str
    kind: str
    start_byte: int
    end_byte: int
    line: int


class Symbols(BaseModel):
    """The definitions of a file by name, those of one name by place; `sha256` is the file they stand in."""

    path: str
    symbols: list[Symbol]
    sha256: str


class SymbolsInFile(ReadTool):
    """Lists the definitions of a Python file."""

    name = "symbols_in_file"
    description = "Lists classes, functions and methods of a Python file by name, with their byte spans."
    input: type[BaseModel] = PathArguments
    output: type[BaseModel] = Symbols

    def perform(self, context: ToolContext, input: PathArguments) -> Symbols:
        """List; raises ValidationError for a language that is not known, NotFoundError."""
        suffix = input.path[input.path.rfind(".") :]
        language = LANGUAGES.get(suffix)
        if language is None:
            message = f"{input.path!r}: symbols are known for {', '.join(sorted(LANGUAGES))} files"
            raise ValidationError(message, details={"path": input.path})
        body = FileRoot(context.root).read(input.path)
        context.source(f"file:{input.path}")
        return Symbols(path=input.path, symbols=symbols(decoded(body, input.path), language), sha256=sha256(body))


def symbols(text: str, language: str) -> list[Symbol]:
    """Give the definitions of a source, ascending by name, then by place."""
    found = []
    for node in (
        SgRoot(text, language).root().find_all(any=[{"kind": "function_definition"}, {"kind": "class_definition"}])
    ):
        name = node.field("name")
        if name is not None:
            span = node.range()
            found.append((name.text(), _kind(node), span.start.index, span.end.index, span.start.line + 1))
    offsets = _byte_offsets(text, {index for each in found for index in each[2:4]})
    listed = [
        Symbol(name=name, kind=kind, start_byte=offsets[start], end_byte=offsets[end], line=line)
        for name, kind, start, end, line in found
    ]
    return sorted(listed, key=lambda symbol: (symbol.name, symbol.start_byte))


def _kind(node: Any) -> str:
    if node.kind() == "class_definition":
        return "class"
    for ancestor in node.ancestors():
        if ancestor.kind() == "class_definition":
            return "method"
        if ancestor.kind() == "function_definition":
            return "function"
    return "function"


def _byte_offsets(text: str, indexes: set[int]) -> dict[int, int]:
    """Turn ast-grep's indexes, which count characters, into byte offsets of the UTF-8 text."""
    offsets: dict[int, int] = {}
    place = size = 0
    for index in sorted(indexes):
        size += len(text[place:index].encode())
        place = index
        offsets[index] = size
    return offsets
