"""The file root: the one folder that file tools of a workspace may touch, opened without trusting any path.

Every path is walked from the root's own descriptor, one component at a time with O_NOFOLLOW, so that neither `..`, an
absolute path, a symbolic link nor a race between a check and an open leads outside (FACTS H). Writes go to a temporary
file that is synced and renamed, so that a reader meets the old bytes or the new ones.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from headrace.errors import ConflictError, NotFoundError, TooLargeError, ValidationError

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
DEPTH_MAX: Final = 64
FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_MODE: Final = 0o644
FOLDER_MODE: Final = 0o755


class FileRoot:
    """A folder and everything below it; paths are relative to it (or absolute and inside it)."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def parts(self, path: str) -> tuple[str, ...]:
        """Give a path's components below the root; raises ValidationError when it leads out of it."""
        if not path or "\x00" in path or not _encodable(path):
            message = f"{path!r} is not a path"
            raise ValidationError(message, details={"path": path})
        text = path
        if path.startswith("/"):
            prefix = str(self.root).rstrip("/") + "/"
            if path.rstrip("/") + "/" == prefix:
                return ()
            if not path.startswith(prefix):
                raise _outside(path)
            text = path[len(prefix) :]
        parts = tuple(part for part in text.split("/") if part not in {"", "."})
        if ".." in parts:
            raise _outside(path)
        if len(parts) > DEPTH_MAX:
            message = f"{path!r} is deeper than {DEPTH_MAX} folders"
            raise ValidationError(message, details={"path": path})
        return parts

    def read(self, path: str, bytes_max: int = FILE_BYTES_MAX) -> bytes:
        """Give a file's bytes; raises NotFoundError, ValidationError (no regular file), TooLargeError."""
        parts = self._file_parts(path)
        with self._folder(parts[:-1], path) as folder:
            return self._read_at(folder, parts[-1], path, bytes_max)

    def write(self, path: str, body: bytes, *, token: str) -> None:
        """Replace or make a file in an existing folder, atomically; `token` makes the temporary name unique."""
        parts = self._file_parts(path)
        with self._folder(parts[:-1], path) as folder:
            mode = self._mode_to_keep(folder, parts[-1], path)
            name = self._temporary(folder, body, token, mode)
            try:
                os.rename(name, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
            except OSError as problem:
                os.unlink(name, dir_fd=folder)
                raise _explained(problem, path) from problem
            os.fsync(folder)

    def create(self, path: str, body: bytes, *, token: str) -> None:
        """Make a file that is not there yet, and the folders above it; raises ConflictError when it exists."""
        parts = self._file_parts(path)
        with self._folder(parts[:-1], path, make=True) as folder:
            name = self._temporary(folder, body, token, FILE_MODE)
            try:
                os.link(name, parts[-1], src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            except OSError as problem:
                raise _explained(problem, path) from problem
            finally:
                os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def kind(self, path: str) -> str:
        """Tell what is at a path: `file`, `directory`, `missing`, or `other` (a link, a pipe, a device)."""
        parts = self.parts(path)
        if not parts:
            return "directory"
        try:
            with self._folder(parts[:-1], path) as folder:
                mode = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode
        except (NotFoundError, FileNotFoundError):
            return "missing"
        if stat.S_ISREG(mode):
            return "file"
        return "directory" if stat.S_ISDIR(mode) else "other"

    def walk(self, path: str = ".", *, hidden: bool = False) -> Iterator[str]:
        """Give every regular file below a folder, relative to that folder, in name order; links are not followed."""
        parts = self.parts(path)
        with self._folder(parts, path) as folder:
            yield from self._walk(folder, "", 0, hidden=hidden)

    def _walk(self, folder: int, prefix: str, depth: int, *, hidden: bool) -> Iterator[str]:
        if depth > DEPTH_MAX:
            return
        with os.scandir(folder) as found:
            entries = sorted((entry.name, entry.is_dir(follow_symlinks=False), _is_file(entry)) for entry in found)
        for name, is_folder, is_file in entries:
            if name.startswith(".") and not hidden:
                continue
            if is_file:
                yield prefix + name
            elif is_folder:
                try:
                    inner = os.open(name, FOLDER_FLAGS, dir_fd=folder)
                except OSError:
                    continue  # it went away, or became a link, since it was listed
                try:
                    yield from self._walk(inner, f"{prefix}{name}/", depth + 1, hidden=hidden)
                finally:
                    os.close(inner)

    def _file_parts(self, path: str) -> tuple[str, ...]:
        parts = self.parts(path)
        if not parts or path.endswith("/"):
            message = f"{path!r} is a folder, not a file"
            raise ValidationError(message, details={"path": path})
        return parts

    @contextmanager
    def _folder(self, parts: tuple[str, ...], path: str, *, make: bool = False) -> Iterator[int]:
        """Open a folder component by component; the descriptor is what every further act is relative to."""
        try:
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as problem:
            raise _explained(problem, str(self.root)) from problem
        try:
            for part in parts:
                try:
                    inner = self._enter(folder, part, make=make)
                except OSError as problem:
                    raise _explained(problem, path) from problem
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _enter(self, folder: int, part: str, *, make: bool) -> int:
        if make:
            try:
                os.mkdir(part, FOLDER_MODE, dir_fd=folder)
            except FileExistsError:
                pass
            else:
                os.fsync(folder)
        return os.open(part, FOLDER_FLAGS, dir_fd=folder)

    def _read_at(self, folder: int, name: str, path: str, bytes_max: int) -> bytes:
        try:
            file = os.open(name, READ_FLAGS, dir_fd=folder)
        except OSError as problem:
            raise _explained(problem, path) from problem
        with os.fdopen(file, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                message = f"{path!r} is not a regular file"
                raise ValidationError(message, details={"path": path})
            body = stream.read(bytes_max + 1)
        if len(body) > bytes_max:
            message = f"{path!r} is larger than {bytes_max} bytes"
            raise TooLargeError(message, details={"path": path, "size_bytes": status.st_size, "bytes_max": bytes_max})
        return body

    def _mode_to_keep(self, folder: int, name: str, path: str) -> int:
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return FILE_MODE
        if not stat.S_ISREG(mode):
            message = f"{path!r} is not a regular file"
            raise ValidationError(message, details={"path": path})
        return stat.S_IMODE(mode)

    def _temporary(self, folder: int, body: bytes, token: str, mode: int) -> str:
        if len(body) > FILE_BYTES_MAX:
            message = f"a file may hold {FILE_BYTES_MAX} bytes, not {len(body)}"
            raise TooLargeError(message, details={"size_bytes": len(body), "bytes_max": FILE_BYTES_MAX})
        name = f".headrace-{token}.tmp"
        try:
            file = os.open(name, WRITE_FLAGS, mode, dir_fd=folder)
        except FileExistsError:
            os.unlink(name, dir_fd=folder)  # left by a worker that died in the middle of this very attempt
            file = os.open(name, WRITE_FLAGS, mode, dir_fd=folder)
        try:
            with os.fdopen(file, "wb") as stream:
                stream.write(body)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
        except OSError as problem:
            os.unlink(name, dir_fd=folder)
            raise _explained(problem, name) from problem
        return name


def _encodable(path: str) -> bool:
    """Tell whether a file can have such a name: half a character, as JSON can write it, is none."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _is_file(entry: "os.DirEntry[str]") -> bool:
    return entry.is_file(follow_symlinks=False)


def _outside(path: str) -> ValidationError:
    message = f"{path!r} leads out of the file root"
    return ValidationError(message, details={"path": path})


def _explained(problem: OSError, path: str) -> Exception:
    """Say what an operating system's error means for a path; never the root's own place on the machine."""
    match problem.errno:
        case errno.ENOENT:
            return NotFoundError(f"there is no {path!r}", details={"path": path})
        case errno.ELOOP | errno.ENOTDIR:
            message = f"{path!r} passes through something that is no folder (links are not followed)"
            return ValidationError(message, details={"path": path})
        case errno.EEXIST:
            return ConflictError(f"{path!r} exists already", details={"path": path})
        case errno.EISDIR:
            return ValidationError(f"{path!r} is a folder, not a file", details={"path": path})
        case errno.ENAMETOOLONG:
            return ValidationError(f"{path!r} has too long a name", details={"path": path})
        case _:
            return ConflictError(f"{path!r}: {os.strerror(problem.errno or 0)}", details={"path": path})
