"""What is started once for all tests of a class: trial itself knows no class-wide set-up."""

from __future__ import annotations

import atexit
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase


class SharedByClass(SynchronousTestCase):
    """Calls ``start_class`` before the first test of a class and ``stop_class`` after the last one.

    When only some of its tests are run, the last one is not known: then ``stop_class`` waits for the end of
    the process.
    """

    _waiting: ClassVar[set[str] | None] = None
    _broken: ClassVar[BaseException | None] = None

    @classmethod
    def start_class(cls) -> None:
        """Start what the tests of the class share."""

    @classmethod
    def stop_class(cls) -> None:
        """Stop it; called once."""

    def setUp(self) -> None:
        """Start the class with its first test."""
        cls = type(self)
        if cls._broken is not None:
            raise cls._broken
        if cls._waiting is None:
            cls._waiting = {
                name
                for name in dir(cls)
                if name.startswith("test_") and not hasattr(getattr(cls, name), "skip")
            }
            try:
                cls.start_class()
            except BaseException as error:
                cls._broken = error
                raise
            atexit.register(cls._stop)
        self.addCleanup(self._finished)

    def _finished(self) -> None:
        waiting = type(self)._waiting
        if waiting is not None:
            waiting.discard(self.id().rsplit(".", 1)[-1])
            if not waiting:
                type(self)._stop()

    @classmethod
    def _stop(cls) -> None:
        atexit.unregister(cls._stop)
        if cls._waiting is not None:
            cls._waiting = None
            cls.stop_class()
