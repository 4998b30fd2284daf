"""The journal: an append-only copy on disk of what the blobs alone cannot tell, for ``rebuild-index``.

The database is the only truth; a line whose transaction was never acknowledged is harmless. Each line is the
CRC-32 of its JSON in eight hexadecimal digits, a space, and the JSON object with its ``event``.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from dockreg_tx.records.connections import sync_directory

Entry = Mapping[str, object]

#: A file that has grown past this is followed by a new one.
ROTATE_BYTES = 64 * 1024 * 1024
#: Tells that lines from a place on, up to this one, belong to no committed transaction.
VOID = "journal.void"
_SUFFIX = ".jsonl"
# Made once: json.dumps makes one for every call with settings of its own.
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)
_SNAPSHOT_SUFFIX = "-snapshot.jsonl"


@dataclass(frozen=True, slots=True, order=True)
class JournalEnd:
    """A place in the journal: the number of a file and a length; (0, 0) before the first file."""

    number: int = 0
    size_bytes: int = 0


class Journal:
    """Appends lines; whoever calls holds the write lock that all processes share."""

    def __init__(self, directory: str, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._directory = directory
        self._rotate_bytes = rotate_bytes
        self._number = 0
        # Of our file and of the one after it: both are looked for with every transaction.
        self._own_path = self._next_path = ""
        self._descriptor = -1
        self._is_spoiled = False

    def open(self) -> None:
        """Make the directory if needed; files are opened by the first append.

        Raises:
            OSError: the directory cannot be made.
        """
        if not os.path.isdir(self._directory):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            sync_directory(os.path.dirname(os.path.abspath(self._directory)))

    @property
    def directory(self) -> str:
        """Where the files are."""
        return self._directory

    def end(self) -> JournalEnd:
        """Return where the next line would be written.

        Raises:
            OSError: the disk refused.
        """
        if self._is_current():
            return JournalEnd(self._number, os.fstat(self._descriptor).st_size)
        number = max(numbers(self._directory), default=0)
        return JournalEnd(number, os.stat(self._path(number)).st_size if number else 0)

    def rotate(self) -> int:
        """Begin a new file, and return the number of the one before it (0: there was none).

        Raises:
            OSError: the disk refused.
        """
        number = self.end().number
        self._open_number(number + 1)
        return number

    def append(self, entries: Sequence[Entry]) -> JournalEnd | None:
        """Write one line for each entry and bring them to disk with one fdatasync.

        Returns:
            Where the last one ends; None when there was nothing to write.

        Raises:
            OSError: the disk refused; none of the lines count.
        """
        if not entries:
            return None
        self._follow()
        size_bytes = os.fstat(self._descriptor).st_size
        lines = b"".join(map(format_line, entries))
        if size_bytes and os.pread(self._descriptor, 1, size_bytes - 1) != b"\n":
            # A crash tore the last line: leave it, and start afresh.
            lines = b"\n" + lines
        try:
            _write_all(self._descriptor, lines)
            self._sync()
        except OSError:
            # Only neatness: lines of a transaction that was rolled back do no harm.
            _truncate_quietly(self._descriptor, size_bytes)
            raise
        return JournalEnd(self._number, size_bytes + len(lines))

    def _sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            # Nobody knows what of this file is on disk, and a second try would lie: begin another one.
            self._is_spoiled = True
            raise

    def close(self) -> None:
        """Give up the descriptor; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _follow(self) -> None:
        """Have the newest file open: another process may have begun one, or ours may be full."""
        if not self._is_current():
            self._open_number(max(numbers(self._directory), default=1))
        if self._is_spoiled or os.fstat(self._descriptor).st_size >= self._rotate_bytes:
            self._open_number(self._number + 1)
            self._is_spoiled = False

    def _is_current(self) -> bool:
        """Tell whether our file is the newest one, and was not removed by a compaction since."""
        return (
            self._descriptor >= 0
            and not os.access(self._next_path, os.F_OK)
            and os.access(self._own_path, os.F_OK)
        )

    def _open_number(self, number: int) -> None:
        path = self._path(number)
        is_new = not os.path.exists(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        self.close()
        self._descriptor = descriptor
        self._number = number
        self._own_path, self._next_path = path, self._path(number + 1)
        if is_new:
            sync_directory(self._directory)

    def _path(self, number: int) -> str:
        return journal_path(self._directory, number)


def journal_path(directory: str, number: int) -> str:
    """Return the path of a file of the journal."""
    return os.path.join(directory, f"{number:08d}{_SUFFIX}")


def snapshot_path(directory: str, number: int) -> str:
    """Return the path of the snapshot that stands for all files up to this number."""
    return os.path.join(directory, f"{number:08d}{_SNAPSHOT_SUFFIX}")


def snapshots(directory: str) -> list[int]:
    """Return the numbers of the snapshots, in order."""
    return _stems(directory, _SNAPSHOT_SUFFIX)


def numbers(directory: str) -> list[int]:
    """Return the numbers of the journal's files, in order; other files are ignored."""
    return _stems(directory, _SUFFIX)


def _stems(directory: str, suffix: str) -> list[int]:
    stems = [name.removesuffix(suffix) for name in os.listdir(directory) if name.endswith(suffix)]
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) >= 8)


def format_line(entry: Entry) -> bytes:
    """Return the line for one entry, with its newline."""
    body = _ENCODER.encode(entry).encode("ascii")
    return b"%08x %b\n" % (zlib.crc32(body), body)


def read_journal(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Return the entries of ``lines`` in order; lines that a crash or the disk broke are left out."""
    for line in lines:
        entry = parse_line(line)
        if entry is not None:
            yield entry


def parse_line(line: bytes) -> Entry | None:
    """Return the entry of a line, None for one that is broken."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        entry = json.loads(body)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _write_all(descriptor: int, content: bytes) -> None:
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def _truncate_quietly(descriptor: int, size_bytes: int) -> None:
    with suppress(OSError):
        os.ftruncate(descriptor, size_bytes)
