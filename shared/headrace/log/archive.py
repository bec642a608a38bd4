"""The file of an archived month: written from its table, read back, held against the chain.

A zip, so that any tool opens it, with these members (docs/retention.md says more):

    manifest.json                   what follows, and the sha256 of every other member
    events/<log>-<partition>.jsonl  the month's events in order, the stored bytes as texts
    chain/<log>-<partition>.jsonl   the hash before the first of them, then every link up to the last
    blobs/<hex>                     each body that an event names
    blobs.jsonl                     their digests, and the workspaces that put them
    lines.jsonl                     what the runs printed

With the chain beside it a file proves itself; restored, it is held against the database's own chain.
"""

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from headrace.errors import ValidationError
from headrace.log.chain import HASH_BYTES, Link, follow, leaf
from headrace.log.port import NewEvent

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
BLOBS: Final = "blobs.jsonl"
LINES: Final = "lines.jsonl"
DIGEST: Final = re.compile(rb"sha256:([0-9a-f]{64})")
UNREADABLE: Final = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What the readers of zip files raise for one that is damaged, and for what they do not read, as an encrypted one."""
Place = tuple[str, int]


class Member(msgspec.Struct, frozen=True):
    """A member of the file: the digest and the size of its bytes, unpacked."""

    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds. `positions` are ranges, both ends included, by `<log>/<partition>`."""

    format: int = FORMAT
    month: str
    incarnation: str
    made_at: int
    streams: int
    events: int
    lines: int
    blobs: int
    positions: dict[str, list[tuple[int, int]]]
    members: dict[str, Member]


class Kept(msgspec.Struct, frozen=True):
    """An event in the file: as the log has it, `data` and `meta` the stored bytes as texts."""

    position: int
    stream_id: str
    version: int
    type: str
    schema: int
    workspace: str
    at: int
    data: str
    meta: str

    def event(self) -> NewEvent:
        """Give the event as it was appended."""
        data, meta = self.data.encode(), self.meta.encode()
        return NewEvent(self.stream_id, self.version, self.type, self.schema, self.workspace, self.at, data, meta)


class Chained(msgspec.Struct, frozen=True):
    """A link in the file; hashes as hex digits."""

    first: int
    last: int
    leaves: str
    hash: str

    def link(self) -> Link:
        """Give the link as the log has it."""
        return Link(self.first, self.last, bytes.fromhex(self.leaves), bytes.fromhex(self.hash))


class Bound(msgspec.Struct, frozen=True):
    """A body in the file, and the workspaces that put it."""

    digest: str
    workspaces: list[str]


def events_member(place: Place) -> str:
    """Name the member with a partition's events."""
    return f"events/{place[0]}-{place[1]}.jsonl"


def chain_member(place: Place) -> str:
    """Name the member with a partition's links."""
    return f"chain/{place[0]}-{place[1]}.jsonl"


def blob_member(digest: str) -> str:
    """Name the member with a body."""
    return f"blobs/{digest.removeprefix('sha256:')}"


def place_of(text: str) -> Place:
    """Read `<log>/<partition>`."""
    log, _, partition = text.rpartition("/")
    return log, int(partition)


def digests_in(data: bytes) -> set[str]:
    """Name every digest that stands in an event."""
    return {f"sha256:{found.decode()}" for found in DIGEST.findall(data)}


class Writer:
    """Writes an archive beside its final name, which it gets when it is whole."""

    def __init__(self, path: Path, *, over: bool = False) -> None:
        """Prepare to write a file; one that is there is replaced with `over`, once the new one is whole, else refused."""
        self._path, self._over = path, over
        self._part = path.with_name(f"{path.name}.part")
        self._zip: zipfile.ZipFile
        self.members: dict[str, Member] = {}

    def __enter__(self) -> Self:
        if self._path.exists() and not self._over:
            message = f"{self._path} is there already; archives are not written over"
            raise ValidationError(message)
        with self.written():
            self._zip = zipfile.ZipFile(self._part, "w", zipfile.ZIP_DEFLATED)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            with suppress(OSError, ValueError):  # a full disk does not take the end of what goes either
                self._zip.close()
            self._part.unlink(missing_ok=True)

    @contextmanager
    def written(self) -> Iterator[None]:
        """Raise ValidationError where the file cannot be written: its disk is full, say."""
        try:
            yield
        except OSError as problem:
            message = f"{self._part} cannot be written: {problem.strerror or problem}"
            raise ValidationError(message) from problem

    def member(self, name: str, lines: Iterator[bytes] | list[bytes]) -> None:
        """Write a whole member of the file."""
        with self.lines(name) as member:
            for line in lines:
                member.write(line)

    def lines(self, name: str) -> "MemberWriter":
        """Begin a member that is written piece by piece."""
        with self.written():
            return MemberWriter(self, name, self._zip.open(name, "w", force_zip64=True))

    def finish(self, manifest: Manifest) -> str:
        """Write the manifest, read the file back, put it in its place to stay there, and give the manifest's digest."""
        body = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        with self.written():
            self._zip.writestr(MANIFEST, body)
            self._zip.close()
            with self._part.open("rb+") as file:
                os.fsync(file.fileno())
        with Archive(self._part) as made:
            made.check()
        with self.written():
            self._part.rename(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # else a table may be gone for good before its file has a name
            finally:
                os.close(folder)
        return "sha256:" + hashlib.sha256(body).hexdigest()


class MemberWriter:
    """One member while it is written, as a context manager."""

    def __init__(self, archive: Writer, name: str, file: Any) -> None:
        self._archive, self._name, self._file = archive, name, file
        self._hash, self._size = hashlib.sha256(), 0

    def __enter__(self) -> Self:
        return self

    def write(self, data: bytes) -> None:
        """Write some bytes."""
        with self._archive.written():
            self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def __exit__(self, *_: object) -> None:
        with self._archive.written():
            self._file.close()
        self._archive.members[self._name] = Member(self._hash.hexdigest(), self._size)


class Archive:
    """An archive that is read, as a context manager. Raises ValidationError for what is none, or is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.manifest: Manifest
        self.digest = ""

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            try:
                self._zip = opened.enter_context(zipfile.ZipFile(self._path))
                body = self._zip.read(MANIFEST)
                self.manifest = msgspec.json.decode(body, type=Manifest)
            except (*UNREADABLE, KeyError, msgspec.DecodeError) as problem:
                message = f"{self._path} is no archive of headrace: {problem}"
                raise ValidationError(message) from problem
            self._demand_format()
            opened.pop_all()
        self.digest = "sha256:" + hashlib.sha256(body).hexdigest()
        return self

    def _demand_format(self) -> None:
        if self.manifest.format != FORMAT:
            message = (
                f"{self._path} is of format {self.manifest.format}, this code reads {FORMAT}: use a newer headrace"
            )
            raise ValidationError(message)

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def check(self) -> None:
        """Hold every member against the manifest, and the events against the chain beside them."""
        missing = set(self._zip.namelist()) ^ {MANIFEST, *self.manifest.members}
        if missing:
            self._damaged(f"its members are not those of the manifest: {', '.join(sorted(missing)[:3])}")
        for name, member in self.manifest.members.items():
            found, size = hashlib.sha256(), 0
            try:
                with self._zip.open(name) as file:
                    while data := file.read(1024 * 1024):
                        found.update(data)
                        size += len(data)
            except UNREADABLE as problem:
                self._damaged(f"{name} cannot be read: {problem}")
            if (found.hexdigest(), size) != (member.sha256, member.size_bytes):
                self._damaged(f"{name} is not what was written")
        for place in self.places():
            self._check_chain(place)

    def places(self) -> list[Place]:
        """Name the partitions that it has events of."""
        return sorted(map(place_of, self.manifest.positions))

    def events(self, place: Place) -> Iterator[Kept]:
        """Read a partition's events in order."""
        yield from self._read(events_member(place), Kept)

    def links(self, place: Place) -> Iterator[Link]:
        """Read a partition's links in order."""
        links = self._read(chain_member(place), Chained)
        next(links)  # the hash before
        yield from (each.link() for each in links)

    def bound(self) -> Iterator[Bound]:
        """Read which bodies it has."""
        yield from self._read(BLOBS, Bound)

    def body(self, digest: str) -> bytes:
        """Read a body."""
        return self._zip.read(blob_member(digest))

    def lines(self) -> Iterator[Any]:
        """Read what the runs printed."""
        yield from self._read(LINES, dict[str, Any])

    def _read(self, name: str, kind: Any) -> Iterator[Any]:
        decoder = msgspec.json.Decoder(kind)
        with self._zip.open(name) as file:
            for line in file:
                yield decoder.decode(line)

    def _check_chain(self, place: Place) -> None:
        name = f"{place[0]}/{place[1]}"
        vouched = self._vouched(place)
        events = self.events(place)
        for first, last in self.manifest.positions[name]:
            for wanted in range(first, last + 1):
                kept = next(events, None)
                if kept is None or kept.position != wanted:
                    self._damaged(f"the event at {wanted} of {name} is missing")
                    return
                expected = next((one for at, one in vouched if at == wanted), None)
                if expected != leaf(wanted, kept.event()):
                    self._damaged(f"the event at {wanted} of {name} is not what the chain says")
        if next(events, None) is not None or next(vouched, None) is not None:
            self._damaged(f"it has more of {name} than the manifest says")

    def _vouched(self, place: Place) -> Iterator[tuple[int, bytes]]:
        """Walk the chain: each position with its leaf, up to the last link's end."""
        links = self._read(chain_member(place), Chained)
        previous = bytes.fromhex(next(links).hash)
        ends = self.manifest.positions["/".join(map(str, place))][-1][1]
        for each in links:
            link = each.link()
            if follow(previous, link.leaves) != link.hash:
                self._damaged(f"the link at {link.first} of {place[0]}/{place[1]} does not follow from the one before")
            previous = link.hash
            for number, at in enumerate(range(link.first, min(link.last, ends) + 1)):
                yield at, link.leaves[number * HASH_BYTES : (number + 1) * HASH_BYTES]

    def _damaged(self, what: str) -> None:
        message = f"{self._path} is damaged: {what}"
        raise ValidationError(message)
