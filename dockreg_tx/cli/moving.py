"""``dockreg import registry2``: a registry's tree adopted, beside a running server or without one."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.moving import FileMoving, Way
from dockreg_tx.cli.frame import AdminCommand, Refused, json_option, pass_operator, show
from dockreg_tx.cli.operator import Operator, now
from dockreg_tx.moving.registry2 import Registry2Import
from dockreg_tx.moving.registry2_tree import NoTree, Registry2Tree, find_tree
from dockreg_tx.moving.report import Report
from dockreg_tx.moving.stage import Stage
from dockreg_tx.ports import MovedBytes, MoveRecords
from dockreg_tx.preparation import run_inline

_EXAMPLES_SHOWN = 3
_WAYS = {
    "auto": tuple(Way),
    "link": (Way.LINK,),
    "reflink": (Way.REFLINK,),
    "copy": (Way.COPY,),
    "move": tuple(Way),
}


@click.command("registry2", cls=AdminCommand)
@click.argument("directory", metavar="DIR")
@click.option(
    "--mode",
    type=click.Choice(list(_WAYS)),
    default="auto",
    show_default=True,
    help="How bytes come here; auto: hard links, else reflinks, else copies. move: and DIR's are removed.",
)
@click.option("--verify", is_flag=True, help="Hash every blob now; else dockreg verify does it later.")
@json_option
@pass_operator
def registry2(operator: Operator, directory: str, mode: str, verify: bool, as_json: bool) -> None:
    """Adopt the images of a registry:2 whose rootdirectory is DIR.

    Run it again to adopt what is new. What cannot be adopted is counted, and stops nothing.
    """
    if not os.path.isdir(directory):
        raise Refused(f"{directory!r} is no directory")
    report, directory = Report(), os.path.abspath(directory)
    try:
        top = find_tree(directory)
    except NoTree as error:
        raise Refused(str(error)) from error
    if os.path.exists(RootLayout(top).format):
        raise Refused(f"{directory} is a root of dockreg: dockreg backup and restore move it")
    with operator.records() as records:
        bytes_ = moving_bytes(operator, _WAYS[mode])
        with _counted(Registry2Tree(top, Report()), hidden=as_json) as progress:
            work = Registry2Import(
                tree=Registry2Tree(top, report),
                bytes_=bytes_,
                stage=new_stage(bytes_, records, report),
                report=report,
                verify=verify,
                moves=mode == "move",
                progress=progress,
            )
            run_inline(work.run())
    operator.note("import.registry2", directory=directory, tags=report.tags, manifests=report.manifests)
    ways = {way.value: count for way, count in bytes_.counts.items()}
    show({**report.document(), "ways": ways}, lines(report, ways), as_json=as_json)


@contextmanager
def _counted(tree: Registry2Tree, *, hidden: bool) -> Iterator[Callable[[], None]]:
    """Show how many of a tree's blobs were seen."""
    if hidden or not sys.stderr.isatty():
        yield lambda: None
        return
    length = sum(1 for _ in tree.blobs())
    with click.progressbar(length=length, label="blobs", file=sys.stderr, update_min_steps=100) as bar:
        yield lambda: bar.update(1)


def moving_bytes(operator: Operator, ways: Sequence[Way]) -> FileMoving:
    """Return what brings bytes under the root."""
    layout = operator.layout()
    return FileMoving(layout=layout, new_id=new_id, ways=ways, floor_bytes=_floor_bytes(operator, layout))


def new_stage(bytes_: MovedBytes, records: MoveRecords, report: Report) -> Stage:
    """Return a stage of this process."""
    return Stage(
        bytes_=bytes_,
        records=records,
        report=report,
        now=now,
        monotonic_seconds=time.monotonic,
        pause=time.sleep,
    )


def new_id() -> str:
    """Return a fresh name for a passing file."""
    return str(uuid.uuid4())  # noqa: TID251 - the command is a composition root of its own


def _floor_bytes(operator: Operator, layout: RootLayout) -> int:
    """Return what uploads must leave free too."""
    settings = operator.settings()
    status = os.statvfs(layout.root)
    if settings.found["storage.low_water"].source != "default":
        return settings.storage.low_water_bytes
    return min(settings.storage.low_water_bytes, status.f_blocks * status.f_frsize // 10)


def lines(report: Report, ways: dict[str, int]) -> Iterator[str]:
    """Yield a report for people."""
    how = f" ({', '.join(f'{way}: {count}' for way, count in ways.items())})" if ways else ""
    yield (
        f"{report.tags} tags, {report.manifests} manifests and {report.blobs} blobs "
        f"({report.blob_bytes} bytes) of {report.repositories} repositories are new here{how}; "
        f"{report.present} entries were here before"
    )
    for finding, count in sorted(report.findings.items()):
        examples = report.examples[finding]
        more = ", …" if count > _EXAMPLES_SHOWN else ""
        yield f"{count} {finding}: {', '.join(examples[:_EXAMPLES_SHOWN])}{more}"
