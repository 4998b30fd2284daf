"""The ``dockreg`` command: administration of a running or a stopped registry, without HTTP."""

from __future__ import annotations

import click

from dockreg_tx.cli.access import access
from dockreg_tx.cli.archives import docker_archive, oci
from dockreg_tx.cli.backup import backup, restore
from dockreg_tx.cli.config import config
from dockreg_tx.cli.doctor import doctor
from dockreg_tx.cli.export import export
from dockreg_tx.cli.frame import AdminGroup
from dockreg_tx.cli.gc import gc
from dockreg_tx.cli.grant import grant
from dockreg_tx.cli.healthcheck import healthcheck
from dockreg_tx.cli.imports import imports
from dockreg_tx.cli.init import init
from dockreg_tx.cli.keys import keys
from dockreg_tx.cli.manifest import manifest
from dockreg_tx.cli.moving import registry2
from dockreg_tx.cli.rebuild import rebuild_index
from dockreg_tx.cli.repo import repo, tag
from dockreg_tx.cli.token import token
from dockreg_tx.cli.trash import trash
from dockreg_tx.cli.user import user
from dockreg_tx.cli.verify import blob, verify
from dockreg_tx.cli.version import version


@click.group(
    "dockreg", cls=AdminGroup, is_program=True, context_settings={"help_option_names": ["-h", "--help"]}
)
def dockreg() -> None:
    """Administer a dockreg registry, running or stopped.

    Exit code 0: done; 1: refused, with one line that says why; 2: wrong usage.
    """


for command in (
    access,
    backup,
    blob,
    config,
    doctor,
    export,
    gc,
    grant,
    healthcheck,
    imports,
    init,
    keys,
    manifest,
    rebuild_index,
    repo,
    restore,
    tag,
    token,
    trash,
    user,
    verify,
    version,
):
    dockreg.add_command(command)

for command in (docker_archive, oci, registry2):
    imports.add_command(command)


def run() -> None:
    """Run the command line of this process."""
    dockreg.main(prog_name="dockreg")
