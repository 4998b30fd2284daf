"""Reading the journal as a whole: what was committed, in order, whatever crashes did to its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dockreg_tx.records.journal import (
    VOID,
    Entry,
    JournalEnd,
    journal_path,
    numbers,
    parse_line,
    snapshot_path,
    snapshots,
)

#: The last line of a complete snapshot.
SNAPSHOT_END = "snapshot.end"
#: Told of each line that is not as it was written.
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Void:
    """Lines from the first place to the second do not count."""

    begin: JournalEnd
    end: JournalEnd

    def covers(self, place: JournalEnd) -> bool:
        return self.begin <= place < self.end


class JournalReader:
    """One reading of a journal that nobody appends to.

    After ``entries`` came to its end, ``end`` is where the last good line ends.
    """

    def __init__(self, directory: str, report: Report) -> None:
        self._directory = directory
        self._report = report
        self._snapshot = max(snapshots(directory), default=0)
        self._numbers = [number for number in numbers(directory) if number > self._snapshot]
        self.end = JournalEnd()

    def entries(self) -> Iterator[Entry]:
        """Yield every entry of a committed transaction, and those of the last one even if it was not.

        A torn last line is left out; any other bad line is reported.
        """
        yield from self._snapshot_entries()
        voids = list(self._voids())
        for number in self._numbers:
            for place, line in _lines(self._directory, number):
                if any(void.covers(place) for void in voids):
                    continue
                entry = parse_line(line)
                if entry is None:
                    self._report_bad(place, line)
                    continue
                self.end = JournalEnd(number, place.size_bytes + len(line))
                if entry.get("event") != VOID:
                    yield entry

    def _snapshot_entries(self) -> Iterator[Entry]:
        if not self._snapshot:
            return
        path = snapshot_path(self._directory, self._snapshot)
        is_complete = False
        with open(path, "rb") as file:
            for index, line in enumerate(file):
                entry = parse_line(line)
                if entry is None:
                    self._report(f"{path}: line {index + 1} is damaged")
                elif entry.get("event") == SNAPSHOT_END:
                    is_complete = True
                else:
                    yield entry
        if not is_complete:
            self._report(f"{path}: its end is missing")

    def _voids(self) -> Iterator[_Void]:
        for number in self._numbers:
            for place, line in _lines(self._directory, number):
                entry = parse_line(line) if VOID.encode() in line else None
                if entry is None or entry.get("event") != VOID:
                    continue
                begin_number, begin_bytes = entry.get("number"), entry.get("size_bytes")
                if isinstance(begin_number, int) and isinstance(begin_bytes, int):
                    yield _Void(JournalEnd(begin_number, begin_bytes), place)

    def _report_bad(self, place: JournalEnd, line: bytes) -> None:
        if place.number == self._numbers[-1] and not line.endswith(b"\n"):
            # A crash tore it: nobody was told that it happened.
            return
        if line.strip():
            path = journal_path(self._directory, place.number)
            self._report(f"{path}: the line at byte {place.size_bytes} is damaged")


def _lines(directory: str, number: int) -> Iterator[tuple[JournalEnd, bytes]]:
    """Yield the lines of one file with the place where each begins."""
    offset_bytes = 0
    with open(journal_path(directory, number), "rb") as file:
        for line in file:
            yield JournalEnd(number, offset_bytes), line
            offset_bytes += len(line)
