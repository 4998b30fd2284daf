"""``dockreg trash``: what was deleted and can come back."""

from __future__ import annotations

import click

from dockreg_tx.cli.frame import AdminGroup, Refused, columns, json_option, pass_operator, show
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.cli.repo import BY, moment
from dockreg_tx.oci.errors import ManifestUnknown
from dockreg_tx.preparation import run_inline
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.records.undelete import Deleted

#: SQLite has no larger ones.
_LARGEST_ID = 2**63 - 1


@click.group("trash", cls=AdminGroup)
def trash() -> None:
    """Look at deleted tags and manifests, and restore them until they are purged ([gc] trash)."""


@trash.command("list")
@json_option
@pass_operator
def list_trash(operator: Operator, as_json: bool) -> None:
    """List what can be restored, the newest first; the first word is its ID."""
    with operator.records() as records:
        found = run_inline(records.trash())
    show([_document(item) for item in found], columns([_cells(item) for item in found]), as_json=as_json)


@trash.command("restore")
@click.argument("trash_ids", metavar="ID...", type=click.IntRange(1, _LARGEST_ID), nargs=-1, required=True)
@pass_operator
def restore(operator: Operator, trash_ids: tuple[int, ...]) -> None:
    """Bring back deleted tags, or manifests with the tags that they had; of an index, its manifests too."""
    expects_layers = operator.settings().manifests.missing_layers != "allow"
    with operator.records() as records:
        for trash_id in trash_ids:
            item = _restored(records, trash_id, expects_layers=expects_layers)
            operator.note(
                "trash.restore",
                repository=item.repository.text,
                digest=str(item.digest),
                tags=list(item.tags),
            )
            click.echo(
                f"{item.repository}@{item.digest} restored: {item.kind} {' '.join(item.tags)}".rstrip()
            )


def _restored(records: InlineSqliteRecords, trash_id: int, *, expects_layers: bool) -> Deleted:
    try:
        return run_inline(records.undelete(trash_id, by=BY, now=now(), expects_layers=expects_layers))
    except ManifestUnknown as error:
        found = [item for item in run_inline(records.trash()) if item.id == trash_id]
        if found:
            place = f"{found[0].repository}@{found[0].digest}"
            raise Refused(f"{trash_id} cannot be restored: {place} is gone; push it again") from error
        raise Refused(f"the trash has no {trash_id}: dockreg trash list shows what it has") from error


def _document(item: Deleted) -> dict[str, object]:
    return {
        "id": item.id,
        "kind": item.kind,
        "repository": item.repository.text,
        "digest": str(item.digest),
        "tags": list(item.tags),
        "deleted_at": item.deleted_at,
        "deleted_by": item.deleted_by,
    }


def _cells(item: Deleted) -> list[str]:
    place = f"{item.repository}@{item.digest}"
    return [str(item.id), item.kind, moment(item.deleted_at), item.deleted_by, place, " ".join(item.tags)]
