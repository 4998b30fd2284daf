"""Signing keys: PEM files that only their owner reads, made once, replaced on demand.

The newest file signs. An older one still verifies until the last token that it signed has ended; after that
it is only a file. Every process looks at the directory again when that has changed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from joserfc.jwk import ECKey

from dockreg_tx.ports import Now

ALGORITHM = "ES256"
_CURVE = "P-256"
#: Milliseconds since the epoch when the key was made, and its thumbprint (RFC 7638).
_NAME = re.compile(r"([0-9]{13,16})-([A-Za-z0-9_-]{43})\.pem")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key; ``key_id`` is its thumbprint."""

    key_id: str
    made_at: float
    key: ECKey


class KeyRing:
    """The keys of one registry.

    Args:
        directory: where their files lie.
        now: seconds since the epoch.
        retired_seconds: how long an older key verifies after a newer one was made.
    """

    def __init__(self, *, directory: str, now: Now, retired_seconds: float) -> None:
        self._directory = directory
        self._now = now
        self._retired_seconds = retired_seconds
        self._seen = -1
        self._keys: tuple[SigningKey, ...] = ()

    @property
    def version(self) -> int:
        """A number that is another one whenever keys came or went, by any process."""
        return os.stat(self._directory).st_mtime_ns

    def signing_key(self) -> SigningKey:
        """Return the newest key.

        Raises:
            LookupError: there is none: the registry was not started yet.
            OSError: the directory cannot be read.
        """
        keys = self._current()
        if not keys:
            raise LookupError(f"{self._directory} holds no signing key: start the registry once")
        return keys[-1]

    def verification_key(self, key_id: str) -> ECKey | None:
        """Return the key of this id if its tokens are still good."""
        return next((each.key for each in self.verifying() if each.key_id == key_id), None)

    def verifying(self) -> Sequence[SigningKey]:
        """Return all keys whose tokens are still good, the oldest first."""
        keys = self._current()
        oldest = self._now() - self._retired_seconds
        # Each is replaced when the next is made; the last is in use.
        replaced_at = [each.made_at for each in keys[1:]]
        good = [each for each, at in zip(keys, replaced_at, strict=False) if at > oldest]
        return [*good, *keys[-1:]]

    def public_keys(self) -> dict[str, list[dict[str, object]]]:
        """Return the JSON Web Key Set that others verify our tokens with."""
        return {"keys": [dict(each.key.as_dict(private=False)) for each in self.verifying()]}

    def _current(self) -> tuple[SigningKey, ...]:
        version = self.version
        if version != self._seen:
            self._keys = read_keys(self._directory)
            self._seen = version
        return self._keys


def read_keys(directory: str) -> tuple[SigningKey, ...]:
    """Return the keys of a directory, the oldest first; other files are left alone. Blocks.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file holds no key.
    """
    found = []
    for name in sorted(os.listdir(directory)):
        match = _NAME.fullmatch(name)
        if match is not None:
            found.append((int(match[1]), match[2], os.path.join(directory, name)))
    return tuple(_read_key(path, key_id, made_ms / 1000) for made_ms, key_id, path in sorted(found))


def ensure_key(directory: str, *, now: float) -> None:
    """Make the first key of a registry that has none. Blocks; the caller is alone.

    Raises:
        OSError: the directory cannot be written.
    """
    _remove_passing(directory)
    if not read_keys(directory):
        add_key(directory, now=now)


def add_key(directory: str, *, now: float) -> str:
    """Make a new key, which signs from now on, and return its id. Blocks.

    Raises:
        OSError: the directory cannot be written; nothing has changed.
    """
    key = _generate()
    # A clock that was set back must not make the new key look older than the one it replaces.
    newest = max((each.made_at for each in read_keys(directory)), default=0.0)
    made_ms = max(int(now * 1000), int(newest * 1000) + 1)
    name = f"{made_ms:013d}-{key.thumbprint()}.pem"
    passing = os.path.join(directory, f".{name}")
    descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.as_pem(private=True))
        file.flush()
        os.fsync(file.fileno())
    os.rename(passing, os.path.join(directory, name))
    _sync(directory)
    return key.thumbprint()


def remove_retired_keys(directory: str, *, replaced_before: float) -> list[str]:
    """Remove the keys that were replaced before a time, and return their ids. Blocks."""
    keys = read_keys(directory)
    removed = []
    for key, successor in pairwise(keys):
        if successor.made_at <= replaced_before:
            os.unlink(os.path.join(directory, f"{round(key.made_at * 1000):013d}-{key.key_id}.pem"))
            removed.append(key.key_id)
    if removed:
        _sync(directory)
    return removed


def _generate() -> ECKey:
    return ECKey.generate_key(_CURVE, private=True)


def _read_key(path: str, key_id: str, made_at: float) -> SigningKey:
    with open(path, "rb") as file:
        content = file.read(64 * 1024)
    try:
        key = ECKey.import_key(content, {"use": "sig", "alg": ALGORITHM, "kid": key_id})
        is_ours = key.is_private and key.curve_name == _CURVE and key.thumbprint() == key_id
    except ValueError:
        is_ours = False
    if not is_ours:
        # Not chained: that error may carry the key.
        raise ValueError(f"{path} is no signing key of ours: restore it from a backup, or remove it")
    return SigningKey(key_id, made_at, key)


def _remove_passing(directory: str) -> None:
    """Remove what a crash left."""
    for name in os.listdir(directory):
        if name.startswith("."):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
