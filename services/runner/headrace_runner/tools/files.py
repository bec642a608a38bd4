"""Reading and writing files: all below the file root, none through a link, every write atomic."""

from pydantic import BaseModel

from headrace.codec import sha256
from headrace.errors import ValidationError
from headrace.ports.tool import ToolContext
from headrace.worker.file_root import FileRoot
from headrace_runner.tools.base import Arguments, FilePath, ReadTool, WriteTool


class PathArguments(Arguments):
    """Which file."""

    path: FilePath


class WriteArguments(Arguments):
    """Which file, and the text it is to hold."""

    path: FilePath
    contents: str


class FileContents(BaseModel):
    """A file as it was read."""

    path: str
    contents: str
    size_bytes: int
    sha256: str


class FileWritten(BaseModel):
    """A file as it is now."""

    path: str
    size_bytes: int
    sha256: str


class FileRead(ReadTool):
    """Reads a text file."""

    name = "file_read"
    description = "Reads a UTF-8 text file below the file root."
    input: type[BaseModel] = PathArguments
    output: type[BaseModel] = FileContents

    def perform(self, context: ToolContext, input: PathArguments) -> FileContents:
        """Read; raises NotFoundError, ValidationError (no text, or outside), TooLargeError."""
        body = FileRoot(context.root).read(input.path)
        context.source(f"file:{input.path}")
        return FileContents(
            path=input.path, contents=decoded(body, input.path), size_bytes=len(body), sha256=sha256(body)
        )


class FileWrite(WriteTool):
    """Writes a text file into a folder that is there."""

    name = "file_write"
    description = "Makes or replaces a text file, atomically. The folder must exist."
    input: type[BaseModel] = WriteArguments
    output: type[BaseModel] = FileWritten

    def perform(self, context: ToolContext, input: WriteArguments) -> FileWritten:
        """Write; again with the same text changes nothing. Raises NotFoundError for a missing folder."""
        body = encoded(input.contents)
        FileRoot(context.root).write(input.path, body, token=context.attempt_id)
        return _written(context, input.path, body)


class FileCreate(WriteTool):
    """Writes a text file that is not there yet, and makes the folders above it."""

    name = "file_create"
    description = "Makes a new text file and the folders above it. Fails when the file exists."
    input: type[BaseModel] = WriteArguments
    output: type[BaseModel] = FileWritten
    idempotent = False

    def perform(self, context: ToolContext, input: WriteArguments) -> FileWritten:
        """Write; raises ConflictError when the file exists."""
        body = encoded(input.contents)
        FileRoot(context.root).create(input.path, body, token=context.attempt_id)
        return _written(context, input.path, body)


def decoded(body: bytes, path: str) -> str:
    """Give a file's text; raises ValidationError when it is not UTF-8."""
    try:
        return body.decode()
    except UnicodeDecodeError as problem:
        message = f"{path!r} is not UTF-8 text (byte {problem.start})"
        raise ValidationError(message, details={"path": path}) from problem


def encoded(contents: str) -> bytes:
    """Give a text's bytes; raises ValidationError for half a surrogate pair, which UTF-8 has no form for."""
    try:
        return contents.encode()
    except UnicodeEncodeError as problem:
        message = f"the contents cannot be written as UTF-8 (character {problem.start})"
        raise ValidationError(message) from problem


def _written(context: ToolContext, path: str, body: bytes) -> FileWritten:
    context.source(f"file:{path}")
    media_type = "text/markdown" if path.endswith((".md", ".markdown")) else "text/plain"
    context.artifact("file", path, path, body=body, media_type=media_type)
    return FileWritten(path=path, size_bytes=len(body), sha256=sha256(body))
