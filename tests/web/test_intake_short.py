"""Bodies, refusals and deadlines once more, by the short way: nobody can tell which way a request took."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.web import test_intake
from tests.web.test_short import ShortWire
from tests.web.wire import Handle


class _Short(SynchronousTestCase):
    """Has every connection take the short way where it can."""

    def setUp(self) -> None:
        def wire(handle: Handle, **options: Any) -> ShortWire:
            return ShortWire(handle, longer=handle, **options)

        self.patch(test_intake, "MemoryWire", wire)
        super().setUp()


class DispatchTests(_Short, test_intake.DispatchTests):
    """As ``test_intake`` has them."""


class BodyTests(_Short, test_intake.BodyTests):
    """As ``test_intake`` has them."""


class LimitTests(_Short, test_intake.LimitTests):
    """As ``test_intake`` has them."""


class DisconnectTests(_Short, test_intake.DisconnectTests):
    """As ``test_intake`` has them."""


class EarlyAnswerTests(_Short, test_intake.EarlyAnswerTests):
    """As ``test_intake`` has them."""


class PipelineTests(_Short, test_intake.PipelineTests):
    """As ``test_intake`` has them."""


class DeadlineTests(_Short, test_intake.DeadlineTests):
    """As ``test_intake`` has them."""


class RefusalTests(_Short, test_intake.RefusalTests):
    """As ``test_intake`` has them."""
