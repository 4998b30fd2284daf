"""``dockreg import oci`` and ``dockreg import docker-archive``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import click

from dockreg_tx.blobs.moving import FileMoving, Way
from dockreg_tx.cli.frame import AdminCommand, Refused, json_option, pass_operator, show
from dockreg_tx.cli.moving import lines, moving_bytes, new_stage
from dockreg_tx.cli.operator import Operator
from dockreg_tx.moving.archive import (
    DOCKER_MANIFESTS,
    DOCUMENT_LIMIT_BYTES,
    INDEX,
    Archive,
    LayoutDirectory,
    docker_entries,
    receive_archive,
)
from dockreg_tx.moving.layout import Entry, LayoutImport, Shelf, read_index
from dockreg_tx.moving.names import ImageName, parse_image_name
from dockreg_tx.moving.report import Finding, Report
from dockreg_tx.moving.tars import ArchiveRefused, Counted, Peekable
from dockreg_tx.oci.errors import NameInvalid, TagInvalid
from dockreg_tx.preparation import run_inline


class ImageNameType(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click alone
    """A repository with or without a tag."""

    name = "name[:tag]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> ImageName:
        """Return the name that a text says."""
        try:
            return parse_image_name(str(value))
        except (NameInvalid, TagInvalid) as error:
            self.fail(error.message, param, ctx)


as_option = click.option(
    "--as", "target", metavar="NAME[:TAG]", type=ImageNameType(), help="Instead of the names it carries."
)


@click.command("oci", cls=AdminCommand)
@click.argument("path", metavar="DIR|TAR")
@as_option
@json_option
@pass_operator
def oci(operator: Operator, path: str, target: ImageName | None, as_json: bool) -> None:
    """Take over an OCI image layout: a directory, or a tar of one, plain or gzipped ("-": standard input).

    Referrers (signatures, SBOMs) come along.
    """
    if not os.path.isdir(path):
        _import(operator, path, target, as_json=as_json, is_docker=False)
        return
    with _refusals():
        with operator.records():
            bytes_ = moving_bytes(operator, (Way.REFLINK, Way.COPY))
        try:
            with open(os.path.join(path, INDEX), "rb") as file:
                entries = read_index(file.read(DOCUMENT_LIMIT_BYTES))
        except FileNotFoundError:
            raise Refused(f"{path} has no {INDEX}: it is no OCI image layout") from None
        _take(operator, LayoutDirectory(os.path.abspath(path), bytes_), entries, bytes_, target, as_json)


@click.command("docker-archive", cls=AdminCommand)
@click.argument("path", metavar="TAR")
@as_option
@json_option
@pass_operator
def docker_archive(operator: Operator, path: str, target: ImageName | None, as_json: bool) -> None:
    """Take over what docker save wrote, plain or gzipped ("-": standard input)."""
    _import(operator, path, target, as_json=as_json, is_docker=True)


def _import(
    operator: Operator, path: str, target: ImageName | None, *, as_json: bool, is_docker: bool
) -> None:
    with _refusals():
        # Before anything is read: a root that is not ready is refused at once.
        with operator.records():
            bytes_ = moving_bytes(operator, (Way.COPY,))
        with _opened(path, hidden=as_json) as file:
            archive = receive_archive(file, bytes_)
        entries = _entries(archive, bytes_, path, is_docker=is_docker)
        _take(operator, archive, entries, bytes_, target, as_json)


def _entries(archive: Archive, bytes_: FileMoving, path: str, *, is_docker: bool) -> list[Entry]:
    # Newer docker writes both; the layout has the digests that were pulled.
    if INDEX in archive.documents:
        return read_index(archive.documents[INDEX])
    if DOCKER_MANIFESTS not in archive.documents:
        wanted = "docker save's manifest.json nor an index.json" if is_docker else INDEX
        raise Refused(f"{path} holds no {wanted}")
    if not is_docker:
        raise Refused(f"{path} is of docker save: say dockreg import docker-archive")
    return docker_entries(archive, bytes_)


def _take(
    operator: Operator,
    shelf: Shelf,
    entries: list[Entry],
    bytes_: FileMoving,
    target: ImageName | None,
    as_json: bool,
) -> None:
    report = Report()
    with operator.records() as records:
        stage = new_stage(bytes_, records, report)
        work = LayoutImport(shelf=shelf, bytes_=bytes_, stage=stage, report=report, target=target)
        run_inline(work.run(entries))
    operator.note("import.layout", tags=report.tags, manifests=report.manifests)
    show(report.document(), lines(report, {}), as_json=as_json)
    if report.findings and not report.manifests + report.present:
        raise Refused(f"nothing was taken over{_hint(report)}")


def _hint(report: Report) -> str:
    if Finding.UNNAMED in report.findings:
        return ": say --as NAME:TAG, since it carries no name"
    return ": it is not whole; make it again, or fetch it again"


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except ArchiveRefused as error:
        raise Refused(str(error)) from error


@contextmanager
def _opened(path: str, *, hidden: bool) -> Iterator[Peekable]:
    """Open an archive; people see how much of it was read."""
    with click.open_file(path, "rb") as opened:
        file = cast("Peekable", opened)
        length = 0 if path == "-" else os.fstat(cast("BinaryIO", opened).fileno()).st_size
        if hidden or not length or not sys.stderr.isatty():
            yield file
            return
        with click.progressbar(length=length, label="archive", file=sys.stderr) as bar:
            yield cast("Peekable", Counted(file, bar.update))
