"""The root directory as a whole: made once, checked at every start, held by one server.

What may go wrong here goes wrong at the start, so every refusal is one line that tells the operator why.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.ports import NewId

FORMAT_VERSION = 1
DIRECTORY_MODE = 0o750
FILE_MODE = 0o640

#: The ``f_type`` of statfs(2) for filesystems where locks or shared memory do not hold between machines.
_REMOTE_FILESYSTEMS = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB",
    0x01021997: "9P",
    0x5346414F: "AFS",
    0x73757245: "Coda",
}
_STATFS_BYTES = 256

FilesystemType = Callable[[str], int]


class RootUnusable(Exception):
    """The registry cannot start on this root; the message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class RootFormat:
    """What the file ``format`` says."""

    version: int
    instance_id: str


def filesystem_type(path: str) -> int:
    """Return the magic number of the filesystem that ``path`` lies on; only statfs(2) tells it."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    if libc.statfs(os.fsencode(path), answer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF


def initialise_root(
    layout: RootLayout,
    *,
    new_id: NewId,
    probe: FilesystemType = filesystem_type,
    beside_registry2: bool = False,
) -> RootFormat:
    """Make an empty or half-made root ready; a ready one only gets back the directories it lacks.

    The file ``format`` comes last, when everything else is on disk: a crash before it is repaired by the next
    call.

    Args:
        layout: where.
        new_id: makes the id of this registry.
        probe: tells the type of a filesystem.
        beside_registry2: take a directory that holds the tree of a registry:2, and leave that alone.

    Raises:
        RootUnusable: the directory holds something else, lies on a remote filesystem, or cannot be written.
    """
    with root_refusals(layout.root):
        _check_filesystem(_nearest_existing(layout.root), probe)
        _make_parents(os.path.abspath(layout.root))
        with _alone_in(layout.root):
            if _exists(layout.format):
                found = _read_format(layout)
                for directory in _make_directories(layout):
                    _sync_directory(os.path.dirname(directory))
                return found
            _check_empty(layout, beside_registry2=beside_registry2)
            _make_directories(layout)
            for directory in reversed(layout.directories()):
                _sync_directory(directory)
            return _write_format(layout, RootFormat(FORMAT_VERSION, new_id()))


def check_root(
    layout: RootLayout, *, probe: FilesystemType = filesystem_type, needs_database: bool = True
) -> RootFormat:
    """Return the format of a root that this version can serve; ``needs_database`` False: or rebuild.

    Raises:
        RootUnusable: it is not initialised, newer than this version, damaged, unreadable, on a remote
            filesystem, or has lost its database.
    """
    with root_refusals(layout.root):
        if not os.path.lexists(layout.root):
            raise RootUnusable(f"{layout.root} is not initialised: run dockreg init")
        os.listdir(layout.root)
        _check_filesystem(layout.root, probe)
        if not _exists(layout.format):
            raise RootUnusable(f"{layout.root} is not initialised: run dockreg init")
        found = _read_format(layout)
        if needs_database:
            _check_database(layout)
        return found


@contextmanager
def root_refusals(root: str) -> Iterator[None]:
    """Turn what the operating system refuses into one line for the operator."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename not in {None, root} else ""
        raise RootUnusable(f"cannot use {root}: {error.strerror}{where}") from error


@contextmanager
def _alone_in(directory: str) -> Iterator[None]:
    """Keep a second first start out until this one is done: both must end with the same id."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _exists(path: str) -> bool:
    """Tell whether there is such a path; unlike os.path.exists, raises when that cannot be known."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _nearest_existing(path: str) -> str:
    path = os.path.abspath(path)
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _check_filesystem(path: str, probe: FilesystemType) -> None:
    name = _REMOTE_FILESYSTEMS.get(probe(path))
    if name is not None:
        raise RootUnusable(
            f"{path} is on {name}: SQLite's locks and shared memory are not reliable there, and images would "
            "be lost; use a local filesystem"
        )


def _check_database(layout: RootLayout) -> None:
    """Refuse to begin anew over content: an empty registry would be served, and the content be litter to it.

    A first start that a crash cut short has no database either, but no content.
    """
    if _exists(layout.database) and os.stat(layout.database).st_size:
        return
    shards = [path for path in layout.directories() if path.startswith(layout.blobs + os.sep)]
    journal = [layout.journal] if _exists(layout.journal) else []
    if any(entry.is_file() for place in (*journal, *shards) if _exists(place) for entry in os.scandir(place)):
        raise RootUnusable(
            f"{layout.database} is missing or empty, but there are blobs or a journal: run dockreg "
            "rebuild-index, or restore a backup"
        )


def _check_empty(layout: RootLayout, *, beside_registry2: bool) -> None:
    """Refuse to scatter hundreds of directories over somebody's home."""
    locks = (layout.lock, layout.write_lock, layout.write_queue)
    ours = {os.path.basename(path) for path in (*layout.directories(), *locks)}
    ours |= {"lost+found", _passing_format(layout).rpartition("/")[2]}
    foreign = sorted(set(os.listdir(layout.root)) - ours)
    if _exists(layout.restoring):
        raise RootUnusable(f"{layout.root} holds an unfinished restore: repeat dockreg restore")
    if foreign == ["docker"] and _exists(os.path.join(layout.root, "docker", "registry", "v2")):
        if beside_registry2:
            return
        raise RootUnusable(
            f"{layout.root} holds the images of a registry:2: adopt them with dockreg init and "
            f"dockreg import registry2 {layout.root}, or name an empty directory"
        )
    if foreign:
        raise RootUnusable(
            f"{layout.root} is not empty and has no file 'format' (it holds {foreign[0]!r}): name an empty "
            "directory, or restore the file from a backup"
        )


def _make_parents(root: str) -> None:
    missing = []
    while not os.path.isdir(root):
        missing.append(root)
        root = os.path.dirname(root)
    for directory in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(directory, DIRECTORY_MODE)
        _sync_directory(os.path.dirname(directory))


def _make_directories(layout: RootLayout) -> list[str]:
    made = []
    for directory in layout.directories():
        with suppress(FileExistsError):
            os.mkdir(directory, DIRECTORY_MODE)
            made.append(directory)
    return made


def _sync_directory(path: str) -> None:
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _passing_format(layout: RootLayout) -> str:
    return layout.format + ".new"


def _write_format(layout: RootLayout, root_format: RootFormat) -> RootFormat:
    content = json.dumps({"version": root_format.version, "instance_id": root_format.instance_id}) + "\n"
    _write_whole(layout.format, content)
    _sync_directory(layout.root)
    return root_format


def _write_whole(path: str, content: str) -> None:
    passing = path + ".new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with open(os.open(passing, flags, FILE_MODE), "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(passing, path)


def _read_format(layout: RootLayout, path: str | None = None) -> RootFormat:
    with open(path or layout.format, "rb") as file:
        content = file.read(4096)
    try:
        found = json.loads(content)
        version, instance_id = found["version"], found["instance_id"]
        if not (type(version) is int and version > 0 and isinstance(instance_id, str)):
            raise ValueError("not of our types")
    except (ValueError, KeyError, TypeError) as error:
        raise RootUnusable(f"{path or layout.format} is damaged: restore it from a backup") from error
    if version > FORMAT_VERSION:
        raise RootUnusable(
            f"{layout.root} was written by a newer dockreg "
            f"(format {version}, this one knows {FORMAT_VERSION}): upgrade dockreg"
        )
    return RootFormat(version, instance_id)


@contextmanager
def restoring(layout: RootLayout, note: str, *, probe: FilesystemType = filesystem_type) -> Iterator[bool]:
    """Fill an empty root from a backup within the block, alone, or go on where an attempt was cut short.

    Yields whether that one was complete, and only said not so.

    Until ``finish_restore`` it has no ``format``, so nobody serves it; the file ``restoring`` tells why.

    Args:
        layout: where.
        note: tells the backup and the snapshot.
        probe: tells the type of a filesystem.

    Raises:
        RootUnusable: the root holds something else, or an attempt at something else.
    """
    with root_refusals(layout.root):
        _check_filesystem(_nearest_existing(layout.root), probe)
        _make_parents(os.path.abspath(layout.root))
        with _alone_in(layout.root):
            if not _exists(layout.restoring):
                if foreign := sorted(set(os.listdir(layout.root)) - {"lost+found", "restoring.new"}):
                    raise RootUnusable(
                        f"{layout.root} is not empty (it holds {foreign[0]!r}): name an empty directory"
                    )
                _write_whole(layout.restoring, note)
                _sync_directory(layout.root)
            with open(layout.restoring, encoding="utf-8") as file:
                if (found := file.read().strip()) != note:
                    raise RootUnusable(
                        f"{layout.root} holds an unfinished restore of {found}: repeat that, or empty it"
                    )
            is_complete = _exists(layout.format)
            if is_complete:
                os.unlink(layout.restoring)
            _make_directories(layout)
            yield is_complete


def finish_restore(layout: RootLayout, format_source: str) -> RootFormat:
    """Give a root that is complete and on disk its ``format``.

    Raises:
        RootUnusable: the format cannot be served by this version.
    """
    with root_refusals(layout.root):
        found = _write_format(layout, _read_format(layout, format_source))
        os.unlink(layout.restoring)
        _sync_directory(layout.root)
        return found
