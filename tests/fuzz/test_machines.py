"""Short random histories, and proof that a difference is seen."""

from __future__ import annotations

from typing import Any

from hypothesis import Phase
from twisted.trial.unittest import SynchronousTestCase

from dockreg_tx.records.operations import SqliteOperations
from dockreg_tx.registry.uploads import Uploads
from tests.fuzz.machines import DiskMachine, RepositoryMachine, UploadMachine, check_machine

RUNS = 50
STEPS = 30


class MachineTests(SynchronousTestCase):
    """A registry on disk against the model."""

    def test_upload(self) -> None:
        """An upload session does what its model does, over restarts and lost connections."""
        check_machine(UploadMachine, runs=RUNS, steps=STEPS)

    def test_repository(self) -> None:
        """Repositories hold what their model holds, over restarts."""
        check_machine(RepositoryMachine, runs=RUNS, steps=STEPS)


class BrokenTests(SynchronousTestCase):
    """The machines, against a registry that is broken on purpose."""

    def find(self, machine: type[DiskMachine]) -> None:
        """Look for a difference, and do not make it small."""
        check_machine(machine, runs=RUNS, steps=STEPS, phases=(Phase.generate,))

    def test_lost_tag(self) -> None:
        """A manifest whose removal leaves its tags is noticed."""

        async def forget_to_delete(self: Any, *arguments: Any, **more: Any) -> bool:
            return True

        self.patch(SqliteOperations, "delete_tag", forget_to_delete)
        self.assertRaises(AssertionError, self.find, RepositoryMachine)

    def test_kept_offset(self) -> None:
        """An offset that is not recorded is noticed."""

        async def forget(self: Any, *arguments: Any) -> None:
            pass

        self.patch(Uploads, "_record_offset", forget)
        self.assertRaises(AssertionError, self.find, UploadMachine)
