"""The memory fake keeps the contract of the records."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from dockreg_tx.records.memory import MemoryRecords
from tests.contracts.records_contract import RecordsContract


class MemoryRecordsTests(RecordsContract, TestCase):
    """The contract suite, over memory."""

    def setUp(self) -> None:
        self.records = MemoryRecords()
