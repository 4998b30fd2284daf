"""The root directory as a whole: made once, checked at every start, held by one server.

What may go wrong here goes wrong at the start, so every refusal is one line that tells the operator why.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.ports import NewId

FORMAT_VERSION = 1
DIRECTORY_MODE = 0o750
_FILE_MODE = 0o640

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
    with _refusals(layout.root):
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


def check_root(layout: RootLayout, *, probe: FilesystemType = filesystem_type) -> RootFormat:
    """Return the format of a root that this version can serve.

    Raises:
        RootUnusable: it is not initialised, newer than this version, damaged, unreadable, on a remote
            filesystem, or has lost its database.
    """
    with _refusals(layout.root):
        if not os.path.lexists(layout.root):
            raise RootUnusable(f"{layout.root} is not initialised: run dockreg init")
        os.listdir(layout.root)
        _check_filesystem(layout.root, probe)
        if not _exists(layout.format):
            raise RootUnusable(f"{layout.root} is not initialised: run dockreg init")
        found = _read_format(layout)
        _check_database(layout)
        return found


@contextmanager
def _refusals(root: str) -> Iterator[None]:
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
    if any(not entry.is_dir() for shard in shards if _exists(shard) for entry in os.scandir(shard)):
        raise RootUnusable(
            f"{layout.database} is missing or empty, but there are blobs: restore it from a backup"
        )


def _check_empty(layout: RootLayout, *, beside_registry2: bool) -> None:
    """Refuse to scatter hundreds of directories over somebody's home."""
    ours = {os.path.basename(path) for path in (*layout.directories(), layout.lock, layout.write_lock)}
    ours |= {"lost+found", _passing_format(layout).rpartition("/")[2]}
    foreign = sorted(set(os.listdir(layout.root)) - ours)
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
    passing = _passing_format(layout)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with open(os.open(passing, flags, _FILE_MODE), "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(passing, layout.format)
    _sync_directory(layout.root)
    return root_format


def _read_format(layout: RootLayout) -> RootFormat:
    with open(layout.format, "rb") as file:
        content = file.read(4096)
    try:
        found = json.loads(content)
        version, instance_id = found["version"], found["instance_id"]
        if not (type(version) is int and version > 0 and isinstance(instance_id, str)):
            raise ValueError("not of our types")
    except (ValueError, KeyError, TypeError) as error:
        raise RootUnusable(f"{layout.format} is damaged: restore it from a backup") from error
    if version > FORMAT_VERSION:
        raise RootUnusable(
            f"{layout.root} was written by a newer dockreg "
            f"(format {version}, this one knows {FORMAT_VERSION}): upgrade dockreg"
        )
    return RootFormat(version, instance_id)


@contextmanager
def collection_lock(layout: RootLayout, *, wait: bool) -> Iterator[bool]:
    """Be the only one who collects garbage on a root; yields False when another does and we do not wait."""
    with _only_one(layout.collection_lock, wait=wait) as is_ours:
        yield is_ours


@contextmanager
def scrub_lock(layout: RootLayout) -> Iterator[bool]:
    """Be the only one who scrubs a root; yields False when another does."""
    with _only_one(layout.scrub_lock, wait=False) as is_ours:
        yield is_ours


@contextmanager
def _only_one(path: str, *, wait: bool) -> Iterator[bool]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


class RootLock:
    """The right to serve a root, held by one server until it releases it or all its processes are gone.

    A forked child (twistd daemonises) holds it too; programs that are executed do not.
    """

    def __init__(self, layout: RootLayout) -> None:
        self._layout = layout
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock and note who has it.

        Raises:
            RootUnusable: another server has it, and is named; or the file cannot be opened.
        """
        with _refusals(self._layout.root):
            descriptor = os.open(self._layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
                os.close(descriptor)
                raise RootUnusable(f"{self._layout.root} is in use by {owner}") from error
        self._descriptor = descriptor
        self.note_owner()

    def share(self) -> None:
        """Hold the lock together with the other processes of one server; from now on, or instead of alone.

        Raises:
            RootUnusable: another server has taken it alone, or the file cannot be opened.
        """
        with _refusals(self._layout.root):
            if self._descriptor is None:
                self._descriptor = os.open(
                    self._layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE
                )
            try:
                # The kernel lets go before it locks anew, so another server can come between.
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(self._descriptor)
                self._descriptor = None
                raise RootUnusable(f"{self._layout.root} is in use by another server") from error

    def note_owner(self) -> None:
        """Write this process's id into the lock file; again after a fork, for the parent's is out of date."""
        if self._descriptor is None:
            raise RuntimeError("the lock is not held")
        note = f"pid {os.getpid()} on {socket.gethostname()}\n".encode()
        # The note only informs; on a full disk the lock holds without it.
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, note, 0)

    def release(self) -> None:
        """Let others in, forked processes notwithstanding. May be called twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
