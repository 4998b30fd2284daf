"""``dockreg trash``: what was deleted and can come back."""

from __future__ import annotations

import click

from dockreg_tx.cli.frame import AdminGroup, columns, json_option, pass_operator, show
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.cli.repo import BY, moment
from dockreg_tx.preparation import run_inline
from dockreg_tx.records.undelete import Deleted


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
@click.argument("trash_ids", metavar="ID...", type=int, nargs=-1, required=True)
@pass_operator
def restore(operator: Operator, trash_ids: tuple[int, ...]) -> None:
    """Bring back deleted tags, or manifests with the tags that they had."""
    with operator.records() as records:
        for trash_id in trash_ids:
            item = run_inline(records.undelete(trash_id, by=BY, now=now()))
            operator.note(
                "trash.restore",
                repository=item.repository.text,
                digest=str(item.digest),
                tags=list(item.tags),
            )
            click.echo(
                f"{item.repository}@{item.digest} restored: {item.kind} {' '.join(item.tags)}".rstrip()
            )


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
