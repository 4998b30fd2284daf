"""The chores of a server: done again and again, whatever fails, and not after the end."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.assembly import Registry
from dockreg_tx.blobs.gate import DiskGate
from dockreg_tx.blobs.layout import RootLayout
from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.certificates import CERTIFICATE_INTERVAL_SECONDS, Certificates
from dockreg_tx.metrics import Counts
from dockreg_tx.settings import load_settings
from dockreg_tx.upkeep import DISK_INTERVAL_SECONDS, Upkeep


class Looker:
    """Counts how often it is asked to look, and fails when told to."""

    def __init__(self) -> None:
        self.looks = 0
        self.is_broken = False

    def look(self) -> None:
        """Look."""
        self.looks += 1
        if self.is_broken:
            raise OSError("no more")


class UpkeepTests(SynchronousTestCase):
    """What every process does for itself."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ballast, self.certificate = Looker(), Looker()
        settings = load_settings(config_path=None, environ={}, options={})
        self.upkeep = Upkeep(
            clock=self.clock,
            now=self.clock.seconds,
            layout=RootLayout(self.mktemp()),
            settings=lambda: settings,
            registry=lambda: cast("Registry", None),
            gate=DiskGate(directories=[], new_id=lambda: "id"),
            hold_ballast=self.ballast.look,
            certificates=cast("Certificates", cast("Any", self.certificate)),
            storage=InlineBlocking(),
            parsing=InlineBlocking(),
            counts=Counts(),
        )

    def pass_time(self, seconds: float) -> None:
        """Let time pass, second by second."""
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def test_repeated(self) -> None:
        """Disk and certificate are looked after at once, and again and again."""
        self.upkeep.begin_own()
        self.assertEqual((1, 1), (self.ballast.looks, self.certificate.looks))
        self.pass_time(2 * CERTIFICATE_INTERVAL_SECONDS)
        rounds = int(2 * CERTIFICATE_INTERVAL_SECONDS / DISK_INTERVAL_SECONDS)
        self.assertEqual((1 + rounds, 3), (self.ballast.looks, self.certificate.looks))

    def test_failure(self) -> None:
        """What fails is in the log, and tried again the next time."""
        self.ballast.is_broken = True
        self.upkeep.begin_own()
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))
        self.ballast.is_broken = False
        self.pass_time(DISK_INTERVAL_SECONDS)
        self.assertEqual(2, self.ballast.looks)

    def test_end(self) -> None:
        """After the end nothing is done and no timer is left; another beginning is possible."""
        self.upkeep.begin_own()
        self.upkeep.end()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.pass_time(60)
        self.assertEqual(1, self.ballast.looks)
        self.upkeep.begin_own()
        self.assertEqual(2, self.ballast.looks)
