"""What removals say of space: what becomes free and when, what stays, and because of whom."""

from __future__ import annotations

from collections.abc import Sequence

from dockreg_tx.records.inspection import Holder
from dockreg_tx.settings import Settings

_NAMED = 3
#: How a manifest stands to the one that goes.
_ROLES = {"index": "index {} that names it", "referrer": "{} that refers to it", "child": "its child {}"}


def freed_later(settings: Settings, count: int, size_bytes: int, others: str) -> str:
    """Say what becomes free, and when."""
    trash, grace, schedule = (settings.found[f"gc.{key}"].plain for key in ("trash", "grace", "schedule"))
    run = "dockreg gc" if schedule == "never" else f"garbage collection, every {schedule} or by dockreg gc,"
    return (
        f"0 bytes are free now: {run} frees {count} blobs ({size_bytes} bytes) that {others} holds, "
        f"once they are {trash} in the trash (dockreg trash list) and {grace} unused"
    )


def kept(settings: Settings, manifest: str, count: int, size_bytes: int) -> str:
    """Say what a manifest keeps that has lost a tag, and how long."""
    untagged_after = settings.found["gc.untagged_after"].plain
    until = f"; garbage collection frees it once it is {untagged_after} without any tag"
    if untagged_after == "never":
        until = f", and nothing becomes free before dockreg manifest remove {manifest}"
    return (
        f"0 bytes are free now: {manifest} stays and pins {count} blobs ({size_bytes} bytes), "
        f"its own included{until}"
    )


def pinned_by(others: Sequence[tuple[str, int, int]]) -> str:
    """Say what stays, and because of whom."""
    if not others:
        return ""
    named = ", ".join(
        f"{name} ({count} blobs, {size_bytes} bytes)" for name, count, size_bytes in others[:_NAMED]
    )
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return f"; what others hold stays: {named}{more} (dockreg blob why DIGEST)"


def holder_name(holder: Holder) -> str:
    """Return what a holder is called."""
    if not holder.manifest:
        return holder.repository
    tags = f" ({holder.tags})" if holder.tags else ""
    return _ROLES.get(holder.role, "{}").format(f"{holder.repository}@{holder.manifest}{tags}")
