"""Opening and reading without ever waiting for the disk: what is in memory at once, else not at all.

So the reactor can serve small hot files by itself, where a trip to a thread costs more than the work.
"""

from __future__ import annotations

import ctypes
import errno
import os

#: Longer reads go to a thread, or out by sendfile.
READ_LIMIT_BYTES = 64 * 1024
#: One byte of so many is looked for.
SAMPLE_BYTES = 256 * 1024

_OPENAT2 = 437
_AT_FDCWD = -100
#: Linux 5.12: fail with EAGAIN rather than ask the disk for a name.
_RESOLVE_CACHED = 0x20
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EOPNOTSUPP, errno.E2BIG})
#: What statfs calls tmpfs, and more room than its answer takes.
_TMPFS, _STATFS_BYTES = 0x01021994, 256


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class CachedFiles:
    """Asks the kernel for what it has in memory; where it cannot be asked, the answer is always no."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._syscall = self._libc.syscall
        self._how = _OpenHow(os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0, _RESOLVE_CACHED)
        self._can_open = os.uname().machine in ("x86_64", "aarch64")
        self._can_read = hasattr(os, "RWF_NOWAIT")
        self._flags: int = getattr(os, "RWF_NOWAIT", 0)

    def open(self, path: str) -> int | None:
        """Return a descriptor for reading, None when that could take time.

        Raises:
            FileNotFoundError: the name is known not to exist.
        """
        if not self._can_open:
            return None
        how = self._how
        descriptor: int = self._syscall(
            _OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)
        )
        if descriptor >= 0:
            return descriptor
        error = ctypes.get_errno()
        if error == errno.ENOENT:
            raise FileNotFoundError(error, os.strerror(error))
        if error in _UNSUPPORTED:
            self._can_open = False
        return None

    def read(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bytes | None:
        """Return so many bytes, None when they are not all in memory."""
        if not self._can_read or length_bytes > READ_LIMIT_BYTES:
            return None
        buffer = bytearray(length_bytes)
        return bytes(buffer) if self._read(descriptor, buffer, offset_bytes) == length_bytes else None

    def holds(self, descriptor: int, offset_bytes: int, length_bytes: int) -> bool:
        """Tell whether so many bytes are in memory, by samples: they come and go by the hundred kilobytes."""
        if not self._can_read:
            return False
        if length_bytes == 0:
            return True
        end_bytes = offset_bytes + length_bytes
        if not self._has_byte(descriptor, end_bytes - 1):
            return False
        if not self._flags:
            return True
        return all(self._has_byte(descriptor, each) for each in range(offset_bytes, end_bytes, SAMPLE_BYTES))

    def _has_byte(self, descriptor: int, offset_bytes: int) -> bool:
        return self._read(descriptor, bytearray(1), offset_bytes) == 1

    def _read(self, descriptor: int, buffer: bytearray, offset_bytes: int) -> int:
        """Fill a buffer and return with how many bytes, -1 when that could take time."""
        try:
            return os.preadv(descriptor, [buffer], offset_bytes, self._flags)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                return -1
        # tmpfs does not know the question, for it has nothing elsewhere but what was swapped out.
        self._can_read = bool(self._flags) and self._is_tmpfs(descriptor)
        self._flags = 0
        return self._read(descriptor, buffer, offset_bytes) if self._can_read else -1

    def _is_tmpfs(self, descriptor: int) -> bool:
        answer = ctypes.create_string_buffer(_STATFS_BYTES)
        if self._libc.fstatfs(descriptor, answer):
            return False
        return ctypes.c_long.from_buffer(answer).value == _TMPFS
