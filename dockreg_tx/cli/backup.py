"""``dockreg backup`` and ``dockreg restore``: all that a registry holds, elsewhere, and back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import asdict

import click

from dockreg_tx.blobs.files import is_inside
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.restoring import RestoringRoot
from dockreg_tx.blobs.shelf import DATABASE, BackupShelf
from dockreg_tx.cli.frame import AdminCommand, Refused, json_option, pass_operator, show
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.oci.digests import Digest
from dockreg_tx.records.copying import check_database, copy_database, live_blobs, quarantine_blobs
from dockreg_tx.registry.backup import Backup, BackupReport, RestoreReport, restore_content
from dockreg_tx.root import check_root, finish_restore, restoring
from dockreg_tx.root_locks import collection_lock

_DIRECTORY = click.Path(file_okay=False)


@click.command("backup", cls=AdminCommand)
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.option("--copy", is_flag=True, help="Copy blobs even where a hard link is possible.")
@click.option("--keep", type=click.IntRange(1), default=7, show_default=True, help="Snapshots to keep.")
@json_option
@pass_operator
def backup(operator: Operator, directory: str, copy: bool, keep: int, as_json: bool) -> None:
    """Add a snapshot of the registry to DIR; it may run meanwhile, and only garbage collection waits.

    Blobs are linked where DIR is on the same filesystem, else copied; those that are there stay. A backup
    that is cut short leaves the earlier ones as they are; begin it again. Blobs that the registry lacks
    are named, one a line, with exit code 1; the rest is in the backup.
    """
    directory = os.path.abspath(directory)
    with operator.records():
        layout = operator.layout()
        instance_id = check_root(layout).instance_id
        shelf = BackupShelf(directory)
        with collection_lock(layout, wait=True):
            try:
                shelf.open_for_backup(layout, instance_id)
                report = _backup(shelf, layout, links=not copy).run(_new_name(shelf), keep=keep)
            finally:
                shelf.close()
    operator.note("backup", directory=directory, snapshot=report.snapshot)
    document = {**asdict(report), "directory": directory, "missing": list(map(str, report.missing))}
    lines = [f"{digest} is missing in the registry: run dockreg verify" for digest in report.missing]
    show(document, [_backup_line(directory, report), *lines], as_json=as_json)
    if report.missing:
        raise Refused(f"the backup is complete but for {len(report.missing)} blobs that the registry lacks")


@click.command("restore", cls=AdminCommand)
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.option("--snapshot", metavar="NAME", help="One of DIR/snapshots.  [the latest]")
@click.option("--partial", is_flag=True, help="Go on without blobs that are bad.")
@json_option
@pass_operator
def restore(operator: Operator, directory: str, snapshot: str | None, partial: bool, as_json: bool) -> None:
    """Fill the empty --root from the backup in DIR, verifying every blob; begin it again if it is cut short.

    Blobs that are bad or missing in the backup are named, one a line, with exit code 1.
    Keys, users and tokens stay good, and so does the registry's id: serve only one of the two.
    """
    layout = operator.layout()
    shelf = BackupShelf(directory)
    try:
        shelf.open_for_restore()
        names = shelf.snapshots()
        name = snapshot or (names[-1] if names else "latest")
        report, is_usable = _restore(shelf, shelf.path(name), name, layout, partial=partial)
    finally:
        shelf.close()
    if is_usable:
        operator.note("restore", directory=shelf.directory, snapshot=name)
    document = {
        "root": layout.root,
        "snapshot": name,
        "blobs": report.blobs,
        "size_bytes": report.size_bytes,
        "bad": {str(digest): reason for digest, reason in report.bad.items()},
    }
    show(document, _restore_lines(layout.root, report, is_usable=is_usable), as_json=as_json)
    if not is_usable:
        raise Refused(
            f"{len(report.bad)} blobs of the backup are bad, and {layout.root} is not usable: "
            "repair DIR and repeat, or say --partial"
        )
    if report.bad:
        raise Refused(f"{len(report.bad)} blobs are missing until they are pushed again")


def _backup(shelf: BackupShelf, layout: RootLayout, *, links: bool) -> Backup:
    def copy_records(directory: str) -> None:
        copy_database(layout.database, os.path.join(directory, DATABASE))
        # After the database: the journal may know more, never less.
        shelf.add_files(directory, layout)

    return Backup(
        shelf=shelf,
        copy_records=copy_records,
        needed=_needed,
        add=lambda digest, size_bytes: shelf.add_blob(layout, digest, size_bytes, links=links).value,
    )


def _needed(directory: str) -> Iterable[tuple[Digest, int]]:
    return live_blobs(os.path.join(directory, DATABASE))


def _restore(
    shelf: BackupShelf, source: str, name: str, layout: RootLayout, *, partial: bool
) -> tuple[RestoreReport, bool]:
    """Restore one snapshot, and tell whether the root can be served: with bad content only if ``partial``."""
    database = os.path.join(source, DATABASE)
    check_database(database)
    if is_inside(layout.root, shelf.directory):
        raise Refused(f"the root {layout.root} is inside the backup {shelf.directory}: name another place")
    with restoring(layout, f"{shelf.directory} {name}") as is_complete:
        if is_complete:
            # A crash came after all was done; since then it may have been served.
            return RestoreReport(name), True
        root = RestoringRoot(layout, shelf)
        report = restore_content(name, live_blobs(database), root.restore_blob)
        if report.bad and not partial:
            return report, False
        root.restore_files(source)
        if report.bad:
            quarantine_blobs(layout.database, list(report.bad))
        root.sync()
        finish_restore(layout, os.path.join(source, "format"))
    return report, True


def _new_name(shelf: BackupShelf) -> str:
    """Return the time, as a name that sorts after all there are."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now()))
    last = max(shelf.snapshots(), default="")
    if last < stamp:
        return stamp
    # Within the same second, or after the clock was set back.
    stem, _, count = last.partition("-")
    return f"{stem}-{int(count or 1) + 1:04d}"


def _backup_line(directory: str, report: BackupReport) -> str:
    return (
        f"{directory}/snapshots/{report.snapshot}: {report.blobs} blobs, {report.size_bytes} bytes "
        f"({report.linked} linked, {report.copied} copied, {report.kept} kept), {report.removed} removed"
    )


def _restore_lines(root: str, report: RestoreReport, *, is_usable: bool) -> list[str]:
    lines = [f"{digest}: {reason}" for digest, reason in report.bad.items()]
    if is_usable:
        what = f"{report.blobs} blobs, {report.size_bytes} bytes verified"
        lines.append(f"{root} is restored from {report.snapshot}: {what}")
    return lines
