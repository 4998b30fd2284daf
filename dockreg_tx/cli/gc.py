"""``dockreg gc``: space taken by what nothing needs is given back."""

from __future__ import annotations

import time
from dataclasses import replace

import click
from twisted.internet.task import Clock

from dockreg_tx.assembly import collection_rules
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blobs.staging import FileUploadStaging
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.cli.frame import AdminCommand, Refused, ask, json_option, pass_operator, show, yes_option
from dockreg_tx.cli.operator import CommandRecords, Operator, now
from dockreg_tx.preparation import inline_collect, run_inline
from dockreg_tx.records import inspection
from dockreg_tx.records.sqlite import InlineSqliteRecords
from dockreg_tx.registry.collect import CollectionRules, Decision
from dockreg_tx.registry.sweep import Sweep
from dockreg_tx.root_locks import collection_lock
from dockreg_tx.settings_values import duration


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click alone
    """A duration such as ``24h``."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds that a text says."""
        try:
            return duration().parse(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


@click.command("gc", cls=AdminCommand)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--grace", type=Duration(), help="Keep what was used within this time.  [gc.grace]")
@click.option(
    "--trash",
    type=Duration(),
    help="Keep what was removed for this time.  [the same as --grace, or gc.trash]",
)
@json_option
@yes_option
@pass_operator
def gc(
    operator: Operator, dry_run: bool, grace: int | None, trash: int | None, as_json: bool, yes: bool
) -> None:
    """Remove what no manifest needs: one digest a line, first word. Works beside a running server.

    Upload sessions that have expired go, too; those that are open keep their bytes.
    """
    settings = operator.settings()
    rules = _rules(collection_rules(settings), grace, trash)
    if not dry_run and 0 in {rules.grace_seconds, rules.trash_seconds}:
        ask("With 0s, pushes under way must begin again, and nothing can be restored. Go on?", yes=yes)
    with operator.records() as records:
        if grace is None:
            _check_clock(records)
        layout = operator.layout()
        with collection_lock(layout, wait=True):
            collect = inline_collect(records, layout, now=now)
            found = run_inline(collect.run(rules, now=now(), dry_run=dry_run))
            if not dry_run:
                expire_after = float(settings.uploads.expire_after_seconds)
                run_inline(_sweep(records, layout).all(expire_after_seconds=expire_after))
    show([_document(decision) for decision in found], map(_line, found), as_json=as_json)


def _check_clock(records: CommandRecords) -> None:
    """Refuse while the registry itself does not believe the clock."""
    held_until = records.answer(inspection.clock_held_until)
    if now() < held_until:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(held_until))
        raise Refused(f"the clock has jumped, so nothing is removed for its age until {until}: see --grace")


def _sweep(records: InlineSqliteRecords, layout: RootLayout) -> Sweep:
    # Nothing is received here, so that nothing waits for this clock.
    staging = FileUploadStaging(layout=layout, blocking=InlineBlocking(), clock=Clock())
    return Sweep(records=records, staging=staging, now=now)


def _rules(rules: CollectionRules, grace: int | None, trash: int | None) -> CollectionRules:
    """Return the rules with what the command line says; ``--grace`` alone sets both."""
    if grace is not None:
        rules = replace(rules, grace_seconds=grace, trash_seconds=grace)
    return rules if trash is None else replace(rules, trash_seconds=trash)


def _document(decision: Decision) -> dict[str, object]:
    return {
        "digest": str(decision.digest),
        "size_bytes": decision.size_bytes,
        "reason": decision.reason.value,
        "since": decision.since,
        "repository": decision.repository,
    }


def _line(decision: Decision) -> str:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(decision.since))
    place = f" in {decision.repository}" if decision.repository else ""
    return (
        f"{decision.digest}  {decision.size_bytes} bytes, {decision.reason.value}{place}, last used {since}"
    )
