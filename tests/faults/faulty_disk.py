"""Disks that fail or dawdle on demand: an image behind nbdkit's filters, mounted as ext4."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults import loops
from tests.faults.loops import MIB, SmallDisk

_PATIENCE_SECONDS = 10.0
#: How long a slow disk takes for whatever it was asked at once.
STALL_SECONDS = 2.0
_BREATH_SECONDS = 0.01


def missing() -> str:
    """Return why such disks cannot be made here, or nothing."""
    if reason := loops.missing():
        return reason
    if not Path("/dev/fuse").exists():
        return "this machine has no FUSE"
    lacking = [name for name in ("nbdkit", "nbdfuse", "fusermount3") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (Debian: nbdkit libnbd-bin fuse3)" if lacking else ""


class FaultyDisk:
    """An ext4 whose device fails while a trigger file is there; close it after use.

    Args:
        directory: made, for everything.
        write_rate: which part of the writes fails then.
    """

    def __init__(self, directory: Path, *, write_rate: str = "100%") -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._image = directory / "image"
        with self._image.open("wb") as file:
            file.truncate(256 * MIB)
        self._write_rate = write_rate
        self._processes: list[subprocess.Popen[bytes]] = []
        loops.run("mkfs.ext4", "-q", "-F", "-m", "0", str(self._image))
        self.path = directory / "mounted"
        self.path.mkdir()
        self._fuse = directory / "fuse"
        self._fuse.mkdir()
        self.device = ""
        self._attach()

    def _trigger(self, kind: str) -> Path:
        return self._directory / f"fail-{kind}"

    def _attach(self) -> None:
        socket = self._directory / "socket"
        with suppress(FileNotFoundError):
            socket.unlink()
        settings = ["error-pread=EIO", "error-pread-rate=100%", f"error-pread-file={self._trigger('read')}"]
        for call in ("pwrite", "zero", "trim"):
            settings += [
                f"error-{call}=EIO",
                f"error-{call}-rate={self._write_rate}",
                f"error-{call}-file={self._trigger('write')}",
            ]
        command = ["nbdkit", "-f", "-U", str(socket), "--filter=error", "file", str(self._image), *settings]
        self._start(command)
        _wait_for(socket.exists)
        disk = self._fuse / "disk"
        self._start(["nbdfuse", str(disk), f"nbd+unix:///?socket={socket}"])
        disk.touch()
        _wait_for(lambda: disk.stat().st_size > 0)
        self.device = loops.run("losetup", "--find", "--show", str(disk)).strip()
        loops.run("mount", "-o", "noatime", self.device, str(self.path))

    def _start(self, command: list[str]) -> None:
        # Its complaints about errors that we asked for help nobody.
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._processes.append(subprocess.Popen(command, **silent))  # type: ignore[call-overload] # a bag

    def break_down(self, kind: str) -> None:
        """Let every ``"read"`` of the device fail, or writes."""
        self._trigger(kind).touch()

    @contextmanager
    def stalling(self, seconds: float = STALL_SECONDS) -> Iterator[None]:
        """Let the device answer nothing for so long, again and again, with a moment of life in between."""
        is_over = threading.Event()
        device = self._processes[0]

        def stall() -> None:
            while not is_over.is_set():
                device.send_signal(signal.SIGSTOP)
                is_over.wait(seconds)
                device.send_signal(signal.SIGCONT)
                is_over.wait(_BREATH_SECONDS)

        thread = threading.Thread(target=stall)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def heal(self) -> None:
        """Let nothing fail any more."""
        for kind in ("read", "write"):
            with suppress(FileNotFoundError):
                self._trigger(kind).unlink()

    def remount(self) -> None:
        """Bring the disk back with what the device has; nobody may have a file open on it."""
        self._detach()
        subprocess.run(["e2fsck", "-f", "-p", str(self._image)], check=False, capture_output=True)
        loops.run("e2fsck", "-f", "-n", str(self._image))
        self._attach()

    def _detach(self) -> None:
        self.heal()
        for command in (
            ["umount", str(self.path)],
            ["losetup", "--detach", self.device],
            ["fusermount3", "-u", str(self._fuse / "disk")],
        ):
            for _ in range(50):
                if subprocess.run(command, check=False, capture_output=True).returncode == 0:
                    break
                time.sleep(0.1)  # the kernel lets go a little later
        for process in reversed(self._processes):
            process.terminate()
            process.wait(_PATIENCE_SECONDS)
        self._processes.clear()

    def close(self) -> None:
        """Unmount for good."""
        self._detach()


def abort(disk: SmallDisk) -> None:
    """Let the file system find itself broken, and become read-only under its open files."""
    subprocess.run(["mount", "-o", "remount,abort", str(disk.path)], check=False, capture_output=True)


def _wait_for(is_true: object) -> None:
    ends = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < ends:
        with suppress(OSError):
            if is_true():  # type: ignore[operator] # a function without arguments
                return
        time.sleep(0.02)
    raise AssertionError("the disk did not come up")
