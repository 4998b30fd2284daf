"""``dockreg export``: images in one file that docker, podman, skopeo and crane read."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

import click

from dockreg_tx.cli.frame import AdminCommand, Refused, pass_operator
from dockreg_tx.cli.moving import moving_bytes, new_id
from dockreg_tx.cli.operator import Operator
from dockreg_tx.moving.export import Export
from dockreg_tx.moving.names import ImageName
from dockreg_tx.oci.digests import Digest
from dockreg_tx.oci.errors import BlobUnknown, ManifestUnknown
from dockreg_tx.oci.names import RepositoryName, Tag
from dockreg_tx.preparation import run_inline

_PLATFORM = re.compile("[a-z0-9_.-]+/[a-z0-9_.-]+", re.ASCII)
#: What uname calls the architectures, as Go calls them.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def _this_platform() -> str:
    machine = platform.machine()
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


def _checked(_context: click.Context, _parameter: click.Parameter, written: str) -> str:
    if not _PLATFORM.fullmatch(written):
        raise click.BadParameter(f"{written!r} is no platform such as linux/arm64")
    return written


@click.command("export", cls=AdminCommand)
@click.argument("names", metavar="NAME[:TAG]…", nargs=-1, required=True)
@click.argument("path", metavar="FILE")
@click.option(
    "--platform",
    "wanted",
    metavar="OS/ARCHITECTURE",
    default=_this_platform,
    callback=_checked,
    help="Which one docker load gets of an image for several; all are exported.  [this machine's]",
)
@click.option("--referrers/--no-referrers", default=True, help="Signatures, SBOMs and the like come along.")
@pass_operator
def export(operator: Operator, names: tuple[str, ...], path: str, wanted: str, referrers: bool) -> None:
    """Write images to FILE ("-": standard output) as an OCI archive, for docker load too.

    A NAME without a tag stands for all of its tags; NAME@DIGEST for one image. Nothing is compressed anew.
    """
    if path == "-" and sys.stdout.isatty():
        raise Refused("an archive is nothing for a terminal: name a FILE, or redirect the output")
    if os.path.isdir(path):
        raise Refused(f"{path} is a directory: name a FILE")
    with operator.records() as records:
        bytes_ = moving_bytes(operator, ())
        work = Export(
            records=records, browse=records, bytes_=bytes_, platform=wanted, with_referrers=referrers
        )
        for name, digest in map(_parse, names):
            _add(work, name, digest)
    for digest in work.lacking:
        click.echo(f"dockreg: {digest} is named by an index, and is not here: exported without it", err=True)
    for each in work.not_for_docker():
        click.echo(f"dockreg: {each} has no image for {wanted}: docker load passes it over", err=True)
    try:
        with _output(path) as file, _progress(sum(work.contents.values())) as progress:
            work.write(file, bytes_.pieces, progress)
    except BlobUnknown as error:
        raise Refused(f"{error.message}: run dockreg verify; nothing was exported") from error


def _add(work: Export, name: ImageName, digest: Digest | None) -> None:
    try:
        run_inline(work.add(name, digest))
    except ManifestUnknown as error:
        if name.tag is None or digest is not None:
            raise
        place = name.repository.text
        raise Refused(f"there is no tag {place}:{name.tag}: dockreg repo tags {place} shows all") from error


def _parse(text: str) -> tuple[ImageName, Digest | None]:
    name, _, digest = text.partition("@")
    repository, _, tag = name.partition(":")
    parsed = ImageName(RepositoryName.parse(repository), Tag.parse(tag) if tag else None)
    return parsed, Digest.parse_supported(digest) if digest else None


@contextmanager
def _output(path: str) -> Iterator[IO[bytes]]:
    """Open the file; it has its name once it is whole."""
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.exists(path) and not os.path.isfile(path):
        # A device or a pipe: it must not give way to a file.
        with open(path, "wb") as file:
            yield file
        return
    # A link stays, and what it leads to is replaced.
    path = os.path.realpath(path)
    passing = f"{path}.{new_id()[:8]}.partial"
    try:
        with _opened(passing, path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(passing, path)
    finally:
        with suppress(OSError):
            os.unlink(passing)


def _opened(passing: str, path: str) -> IO[bytes]:
    """Open the file that is to become ``path``, by whose name errors go."""
    try:
        return open(passing, "xb")
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


@contextmanager
def _progress(length: int) -> Iterator[Callable[[int], object]]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label="archive", file=sys.stderr) as bar:
        yield bar.update
