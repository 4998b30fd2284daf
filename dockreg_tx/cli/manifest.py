"""``dockreg manifest``: what is stored under a digest."""

from __future__ import annotations

from functools import partial

import click

from dockreg_tx.cli.frame import AdminGroup, Refused, ask, pass_operator, yes_option
from dockreg_tx.cli.freed import freed_later, holder_name, pinned_by
from dockreg_tx.cli.operator import CommandRecords, Operator, now
from dockreg_tx.cli.repo import BY
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import NameUnknown
from dockreg_tx.oci.names import RepositoryName
from dockreg_tx.preparation import run_inline
from dockreg_tx.records import inspection
from dockreg_tx.records.inspection import Holder


@click.group("manifest", cls=AdminGroup)
def manifest() -> None:
    """Remove manifests."""


@manifest.command("remove")
@click.argument("image", metavar="NAME@DIGEST")
@yes_option
@pass_operator
def remove_manifest(operator: Operator, image: str, yes: bool) -> None:
    """Remove a manifest with all its tags; they can be restored from the trash.

    Says what garbage collection frees later, and who holds the rest: an index that names the manifest (it
    cannot be pulled whole any more), others that share its layers, or its own children if it is an index:
    those stay until they are removed themselves.
    """
    repository, digest = _parsed(image)
    name = repository.text
    with operator.records() as records:
        _check(records, repository, digest)
        tags = records.answer(partial(inspection.tags_of, repository=repository, digest=digest))
        count_bytes = records.answer(
            partial(inspection.manifest_holds_alone, repository=repository, digest=digest)
        )
        holders = records.answer(partial(inspection.holders, repository=repository, digest=digest))
        ask(f"Remove manifest {image} with its {len(tags)} tags?{_needed(holders)}", yes=yes)
        if not run_inline(records.delete_manifest(repository, digest, by=BY, now=now())):
            raise Refused(f"manifest {image} was removed meanwhile")
    operator.note("manifest.remove", repository=name, reference=str(digest), digest=str(digest), tags=tags)
    freed = freed_later(operator.settings(), *count_bytes, "nothing else")
    pinned = pinned_by([(holder_name(holder), holder.count, holder.size_bytes) for holder in holders])
    click.echo(f"manifest {image} removed with {len(tags)} tags; {freed}{pinned}")


def _parsed(image: str) -> tuple[RepositoryName, Digest]:
    name, separator, text = image.partition("@")
    if not separator:
        raise Refused(f"{image!r} has no digest: write NAME@DIGEST (dockreg repo tags NAME --json has them)")
    return RepositoryName.parse(name), Digest.parse_supported(text)


def _check(records: CommandRecords, repository: RepositoryName, digest: Digest) -> None:
    if run_inline(records.manifest(repository, digest)) is not None:
        return
    if not run_inline(records.repository_exists(repository)):
        raise NameUnknown(repository.text)
    raise Refused(
        f"there is no manifest {repository}@{digest}: dockreg repo tags {repository} --json "
        "shows those with tags"
    )


def _needed(holders: list[Holder]) -> str:
    """Return what the question adds when an index needs the manifest."""
    names = [holder_name(holder) for holder in holders if holder.role == "index"]
    return f" There is an {names[0]}." if names else ""
