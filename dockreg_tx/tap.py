"""``twistd dockreg``: options, and the service that they describe.

Everything that can be wrong with them is said in one line before twistd goes into the background.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from dockreg_tx.listeners import StartRefused
from dockreg_tx.server import Server
from dockreg_tx.settings import Settings, SettingsError, load_settings
from dockreg_tx.systemd import notifier_of
from dockreg_tx.workers.brief import worker_count


class Options(usage.Options):
    """Command line of ``twistd dockreg``; what is not given comes from environment, file or defaults."""

    synopsis = "[options]"
    longdesc = "A container registry. Every setting is explained in etc/dockreg.toml."
    optParameters = [  # noqa: RUF012 - usage.Options reads this class attribute
        ["config", "c", None, "Settings file (TOML); etc/dockreg.toml shows every key."],
        ["root", "r", None, "Directory of the data; made ready when it is empty. [default: ./var/registry]"],
        [
            "anonymous",
            None,
            None,
            "What callers without credentials may do: none, pull or push. [default: none]",
        ],
        ["workers", None, None, "Processes that serve: a number, or auto. [default: 1]"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Where to listen: a Twisted endpoint string, repeatable. [tcp:5000:interface=127.0.0.1]."""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the command line; a mistake ends the program with one line."""
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"dockreg: {error}; see twistd dockreg --help") from None

    def parseArgs(self, *arguments: str) -> None:
        """Take no arguments beside options."""
        if arguments:
            raise SystemExit(f"dockreg: {arguments[0]!r} is not an option; see twistd dockreg --help")


def makeService(options: Options, environ: Mapping[str, str] | None = None) -> IService:
    """Return the registry as a service that twistd can start.

    Raises:
        SystemExit: with one line, when settings, root or listeners cannot work.
    """
    from twisted.internet import reactor  # noqa: PLC0415, TID251 - twistd installs it first

    given = {name: options[name] for name in ("root", "listen", "anonymous", "workers")}
    twistd: Mapping[str, Any] = options.parent or {}

    # Absolute: twistd may change its directory before the settings are read again.
    config_path = os.path.abspath(options["config"]) if options["config"] else None

    def load() -> Settings:
        return load_settings(
            config_path=config_path,
            environ=os.environ if environ is None else environ,
            options=given,
        )

    try:
        service = server_type(load())(load=load, reactor=reactor, twistd_options=twistd)
        service.notifier = notifier_of(os.environ, pid=os.getpid())
        service.check()
    except (SettingsError, StartRefused) as error:
        raise SystemExit(f"dockreg: {error}") from None
    return service


def server_type(settings: Settings) -> type[Server]:
    """Return what serves with so many workers; the other one is not loaded."""
    if worker_count(settings) > 1:
        from dockreg_tx.workers.supervisor import Supervisor  # noqa: PLC0415

        return Supervisor
    from dockreg_tx.service import RegistryService  # noqa: PLC0415

    return RegistryService
