"""``dockreg verify`` and ``dockreg blob``: whether content is what its digest says, and what holds it."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace

import click

from dockreg_tx.blobs.filesystem import FileBlobStore
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.trash import FileTrash
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.cli.frame import AdminCommand, AdminGroup, Refused, columns, json_option, pass_operator, show
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.oci.digests import Digest
from dockreg_tx.ports import BlobUse
from dockreg_tx.preparation import run_inline
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.registry.verify import Damage, Heal, Verify


@click.command("verify", cls=AdminCommand)
@click.option("--repair", is_flag=True, help="Move damaged content to quarantine/; the next push heals it.")
@json_option
@pass_operator
@click.pass_context
def verify(context: click.Context, operator: Operator, repair: bool, as_json: bool) -> None:
    """Read all again: one damaged digest a line, first word, then rows and references; exit code 1 if any."""
    with operator.records() as records:
        found = run_inline(_damages(records, operator.layout(), repair=repair))
        rows = run_inline(records.damaged_rows())
        dangling = _dangling(operator, records)
        rows += [f"copy of manifest {digest}" for digest in run_inline(records.damaged_copies())]
    document = [
        {
            "digest": str(item.digest),
            "reason": item.reason,
            "repaired": item.is_repaired,
            "healed": item.is_healed,
        }
        for item in found
    ]
    lines = [f"{item.digest}  {item.reason}{_outcome(item)}" for item in found]
    document += [{"row": name, "reason": _ROW_REASON, "repaired": False} for name in rows]
    document += [{"reference": text, "reason": _DANGLING_REASON, "repaired": False} for text in dangling]
    lines += [f"{name}  {_ROW_REASON}" for name in rows]
    show(document, lines + [f"{text}: {_DANGLING_REASON}" for text in dangling], as_json=as_json)
    if found or rows or dangling:
        context.exit(1)


_ROW_REASON = "the database's row is damaged: push it anew, or restore the database from a backup"
_DANGLING_REASON = "push the image again, or delete it"


def _outcome(item: Damage) -> str:
    if item.is_healed:
        return "; healed: it is a manifest, and the database had a copy"
    if not item.is_repaired:
        return ""
    return "; push it again" if item.is_missing else "; moved to quarantine: push it again"


def _dangling(operator: Operator, records: InlineSqliteRecords) -> list[str]:
    """Return what manifests lack, unless they may."""
    if operator.settings().manifests.missing_layers == "allow":
        return []
    return run_inline(records.dangling_references())


async def _damages(records: InlineSqliteRecords, layout: RootLayout, *, repair: bool) -> list[Damage]:
    blobs = FileBlobStore(
        layout=layout, blocking=InlineBlocking(), new_id=lambda: f"verify-{secrets.token_hex(8)}"
    )
    quarantine = FileTrash(layout=layout, blocking=InlineBlocking(), now=now, directory=layout.quarantine)
    work = Verify(records=records, blocking=InlineBlocking(), blobs=blobs, quarantine=quarantine)
    heal = Heal(records=records, blobs=blobs)
    return [
        replace(damage, is_healed=repair and await heal.manifest(damage.digest))
        async for damage in work.run(repair=repair)
    ]


@click.group("blob", cls=AdminGroup)
def blob() -> None:
    """Look at blobs."""


@blob.command("why")
@click.argument("digest")
@json_option
@pass_operator
def why(operator: Operator, digest: str, as_json: bool) -> None:
    """Say what keeps a blob from garbage collection."""
    parsed = Digest.parse_supported(digest)
    with operator.records() as records:
        uses = run_inline(records.blob_uses(parsed))
    if not uses:
        raise Refused(f"{digest} is unknown here")
    document = [
        {"kind": use.kind, "repository": use.repository, "digest": use.digest, "tags": use.tags, "at": use.at}
        for use in uses
    ]
    show(document, columns([_cells(use) for use in uses]), as_json=as_json)


def _cells(use: BlobUse) -> list[str]:
    place = f"{use.repository}@{use.digest}" if use.digest else use.repository
    return [use.kind, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(use.at)), place, use.tags]
