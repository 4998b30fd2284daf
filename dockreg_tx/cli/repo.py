"""``dockreg repo`` and ``dockreg tag``: what is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import click

from dockreg_tx.cli.frame import (
    AdminGroup,
    Refused,
    ask,
    columns,
    json_option,
    pass_operator,
    show,
    yes_option,
)
from dockreg_tx.cli.freed import freed_later, kept, pinned_by
from dockreg_tx.cli.operator import CommandRecords, Operator, now
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import DigestInvalid, ManifestUnknown, NameUnknown
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.preparation import run_inline
from dockreg_tx.records import inspection
from dockreg_tx.records.inspection import RecordedMove
from dockreg_tx.records.sqlite import InlineSqliteRecords

#: Who removed something, where a user's name stands otherwise; no user can be called that.
BY = ":command"
_PAGE = 1000


@click.group("repo", cls=AdminGroup)
def repo() -> None:
    """Look at repositories, and remove them."""


@repo.command("list")
@json_option
@pass_operator
def list_repositories(operator: Operator, as_json: bool) -> None:
    """List all repositories."""
    with operator.records() as records:
        names = list(_repositories(records))
    show(names, names, as_json=as_json)


@repo.command("tags")
@click.argument("name")
@json_option
@pass_operator
def tags(operator: Operator, name: str, as_json: bool) -> None:
    """List the tags of a repository; as JSON with the digests they mean."""
    repository = RepositoryName.parse(name)
    with operator.records() as records:
        found = _tags(records, repository)
        digests = {tag: _digest(records, repository, tag) for tag in found} if as_json else {}
    show([{"tag": tag, "digest": digests.get(tag)} for tag in found], found, as_json=as_json)


@repo.command("history")
@click.argument("image", metavar="NAME:TAG")
@json_option
@pass_operator
def history(operator: Operator, image: str, as_json: bool) -> None:
    """Show where a tag has pointed, the newest first; entries that are damaged on disk are marked so."""
    repository, parsed = _parsed(image)
    with operator.records() as records:
        moves = records.answer(lambda reader: inspection.tag_moves(reader, repository, parsed))
    if not moves:
        raise Refused(f"there never was a tag {image}")
    document = [{**asdict(move), "damaged": _is_damaged(move)} for move in moves]
    show(document, columns([_move_cells(move) for move in moves]), as_json=as_json)


@repo.command("remove")
@click.argument("name")
@yes_option
@pass_operator
def remove_repository(operator: Operator, name: str, yes: bool) -> None:
    """Remove a repository with all its tags, manifests and upload sessions."""
    repository = RepositoryName.parse(name)
    with operator.records() as records:
        count = len(_tags(records, repository))
        count_bytes = run_inline(records.held_alone(repository))
        freed = freed_later(operator.settings(), *count_bytes, "no other repository")
        pinned = pinned_by(run_inline(records.held_too(repository)))
        ask(f"Remove repository {name} with its {count} tags?", yes=yes)
        if not run_inline(records.remove_repository(repository, by=BY, now=now())):
            raise NameUnknown(name)
    operator.note("repo.remove", repository=name)
    click.echo(f"repository {name} removed with {count} tags; {freed}{pinned}")


@click.group("tag", cls=AdminGroup)
def tag() -> None:
    """Change tags."""


@tag.command("remove")
@click.argument("image", metavar="NAME:TAG")
@yes_option
@pass_operator
def remove_tag(operator: Operator, image: str, yes: bool) -> None:
    """Remove one tag; its manifest stays and can be pulled by digest, until dockreg manifest remove."""
    repository, parsed = _parsed(image)
    name = repository.text
    with operator.records() as records:
        manifest = run_inline(records.manifest(repository, parsed))
        if manifest is None:
            raise Refused(f"there is no tag {image}: dockreg repo tags {name} shows all")
        digest = manifest.digest
        held = records.answer(partial(inspection.manifest_holds, repository=repository, digest=digest))
        ask(f"Remove tag {image}, which means {digest}?", yes=yes)
        run_inline(records.delete_tag(repository, parsed, by=BY, now=now()))
    operator.note("tag.remove", repository=name, reference=parsed.text, digest=str(digest))
    click.echo(f"tag {image} removed; {kept(operator.settings(), f'{name}@{digest}', *held)}")


@tag.command("rollback")
@click.argument("image", metavar="NAME:TAG")
@yes_option
@pass_operator
def rollback(operator: Operator, image: str, yes: bool) -> None:
    """Point a tag, moved or removed, at where it pointed before; done twice, it is as it was."""
    repository, parsed = _parsed(image)
    with operator.records() as records:
        present = _digest(records, repository, parsed.text)
        former = _former(records, repository, parsed, present)
        ask(f"Point {image} at {former} instead of {present or 'nothing'}?", yes=yes)
        try:
            run_inline(records.point_tag(repository, parsed, former, by=BY, now=now()))
        except ManifestUnknown:
            raise Refused(_gone(records, repository, former)) from None
    operator.note("tag.rollback", repository=repository.text, reference=parsed.text, digest=str(former))
    click.echo(f"{image} means {former} again")


def _former(records: CommandRecords, repository: RepositoryName, tag: Tag, present: str | None) -> Digest:
    """Return where a tag pointed before it pointed at ``present``.

    Raises:
        Refused: nowhere, or nobody knows.
    """
    image = f"{repository}:{tag}"
    moves = records.answer(lambda reader: inspection.tag_moves(reader, repository, tag))
    # The newest says what the tag itself does.
    for move in moves[1 if present else 0 :]:
        if _is_damaged(move):
            raise Refused(
                f"the entry {move.digest!r} in the history of {image} is damaged: push the image that "
                f"the tag shall mean (dockreg repo history {image} shows all)"
            )
        if move.digest and move.digest != present:
            return Digest.parse(move.digest)
    raise Refused(f"{image} never pointed anywhere else: dockreg repo history {image} shows all")


def _is_damaged(move: RecordedMove) -> bool:
    if move.digest is None:
        return False
    try:
        Digest.parse_supported(move.digest)
    except DigestInvalid:
        return True
    return False


def _move_cells(move: RecordedMove) -> list[str]:
    digest = f"{move.digest!r} (damaged)" if _is_damaged(move) else move.digest or "removed"
    return [digest, moment(move.changed_at), move.changed_by]


def _gone(records: InlineSqliteRecords, repository: RepositoryName, digest: Digest) -> str:
    """Say how a manifest that was deleted may come back."""
    place = f"{repository}@{digest}"
    for item in run_inline(records.trash()):
        if (item.kind, item.repository, item.digest) == ("manifest", repository, digest):
            return f"{place} was deleted: dockreg trash restore {item.id} brings it back"
    return f"{place} was deleted and is collected: push it again"


def _parsed(image: str) -> tuple[RepositoryName, Tag]:
    name, separator, text = image.partition(":")
    if not separator:
        raise Refused(f"{image!r} has no tag: write NAME:TAG")
    return RepositoryName.parse(name), Tag.parse(text)


def moment(seconds: float) -> str:
    """Return a time in UTC for people."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _repositories(records: InlineSqliteRecords) -> Iterator[str]:
    after = ""
    while page := run_inline(records.repositories(after, _PAGE)):
        yield from page
        after = page[-1]


def _tags(records: InlineSqliteRecords, repository: RepositoryName) -> list[str]:
    if not run_inline(records.repository_exists(repository)):
        raise NameUnknown(str(repository))
    return run_inline(records.tags(repository, "", None))


def _digest(records: InlineSqliteRecords, repository: RepositoryName, text: str) -> str | None:
    manifest = run_inline(records.manifest(repository, Tag(text)))
    return None if manifest is None else str(manifest.digest)
