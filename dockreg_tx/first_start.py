"""The user ``admin`` of a new registry, whose password lies in a file that only its owner reads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.ports import Account, AccountRecords

ADMIN = "admin"
#: The generation of a database in which no user was ever added, changed or removed.
_UNTOUCHED_GENERATION = 1


async def ensure_admin(
    *,
    accounts: AccountRecords,
    layout: RootLayout,
    new_password: Callable[[], str],
    hash_password: Callable[[str], str],
    now: float,
) -> bool:
    """Add ``admin`` to a registry that never had a user, and write the password to ``<root>/admin-password``.

    The file is on disk before the account is: after a crash between the two the next start does both again.
    A registry whose last user was removed on purpose gets no new one.

    Args:
        accounts: the users.
        layout: of the root; the caller is the only one at work in it.
        new_password: makes a password.
        hash_password: returns what is stored of it; may block.
        now: seconds since the epoch.

    Returns:
        Whether the user was added.

    Raises:
        OSError: the file cannot be written; there is no account then.
        StorageFull, StoreUnavailable: the account cannot be recorded.
    """
    if await accounts.access_generation() > _UNTOUCHED_GENERATION or await accounts.accounts():
        return False
    password = new_password()
    password_hash = hash_password(password)
    _write_secret(layout.admin_password, password)
    return await accounts.add_account(
        Account(name=ADMIN, password_hash=password_hash, is_admin=True, created_at=now)
    )


def _write_secret(path: str, secret: str) -> None:
    """Write a file of mode 0600, complete or not at all."""
    passing = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        # Left by a crash: it may hold half a password.
        os.unlink(passing)
    descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(passing, path)
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
