"""Becoming the owner of the root, so that the superuser leaves no files that the server cannot open."""

from __future__ import annotations

import os


def become_owner(path: str) -> int | None:
    """Take user and group of ``path`` for good, if this process is the superuser and the path exists.

    Returns:
        The user that the process has become; None when nothing changed.
    """
    if os.geteuid() != 0:
        return None
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    if status.st_uid == 0:
        return None
    # Groups first: afterwards there is no right to.
    os.setgroups([status.st_gid])
    os.setgid(status.st_gid)
    os.setuid(status.st_uid)
    return status.st_uid
