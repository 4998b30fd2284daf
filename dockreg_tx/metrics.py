"""The counters: what a registry counts about itself, as plain numbers in slots, summed over processes.

Counting must cost next to nothing, so a process adds to numbers in memory that only it writes; families and
text are made of them when somebody asks (``exposition``). With workers that memory is shared, and one answer
sums it up. See ``docs/decisions/0014-metrics-in-shared-memory.md``.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

#: Every endpoint of the route table; what is not one of them counts as other.
ENDPOINTS = (
    "root", "healthz", "readyz", "debug.health", "metrics", "token", "jwks", "base", "catalog", "extensions",
    "ping", "search", "uploads.new", "uploads.session", "blobs", "manifests", "tags", "referrers", "other",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
POOLS = ("storage", "passwords", "parsing", "reading", "auditing", "logging", "metrics")
#: Upper bounds in seconds.
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
WORK_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)

Kind = Literal["counter", "gauge", "histogram"]
#: An array or a view of shared memory: doubles.
Slots = Any


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one name, one (or, of a histogram, several) for each combination of label values.

    Processes sum up, but of a ``shared`` gauge, which is about the registry and not one process, the largest
    counts; one that ``stays`` outlives the process that set it.
    """

    name: str
    kind: Kind
    help: str
    labels: Mapping[str, Sequence[str]] | None = None
    buckets: tuple[float, ...] = ()
    is_shared: bool = False
    stays: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of its labels in their order."""
        return tuple(self.labels or ())

    @property
    def label_values(self) -> list[tuple[str, ...]]:
        """Every combination of values."""
        return list(product(*(self.labels or {}).values()))

    @property
    def width(self) -> int:
        """How many slots one combination takes: of a histogram, its buckets, the last one and the sum."""
        return len(self.buckets) + 2 if self.kind == "histogram" else 1


_ROUTE = {"endpoint": ENDPOINTS, "method": METHODS}
_POOL = {"pool": POOLS}
FAMILIES = (
    Family(
        "dockreg_requests", "counter", "Requests that ended, by status class.", {**_ROUTE, "status": CLASSES}
    ),
    Family(
        "dockreg_request_duration_seconds",
        "histogram",
        "Time from the head of a request to the end of its answer.",
        _ROUTE,
        REQUEST_BUCKETS,
    ),
    Family("dockreg_request_received_bytes", "counter", "Bytes of request bodies that came in.", _ROUTE),
    Family("dockreg_response_sent_bytes", "counter", "Bytes of answer bodies that went out.", _ROUTE),
    Family(
        "dockreg_refused_heads", "counter", "Heads that became no request: malformed, too long, too slow."
    ),
    Family("dockreg_requests_in_flight", "gauge", "Requests that are being answered."),
    Family("dockreg_connections", "gauge", "Open connections of clients."),
    Family(
        "dockreg_logins",
        "counter",
        "Credentials that were looked at, by kind and outcome.",
        {"credential": ("password", "token"), "result": ("accepted", "refused", "throttled")},
    ),
    Family("dockreg_pool_jobs", "gauge", "Work of a pool of threads, running and waiting.", _POOL),
    Family(
        "dockreg_pool_wait_seconds",
        "histogram",
        "Time that work waited for a thread of its pool.",
        _POOL,
        WORK_BUCKETS,
    ),
    Family(
        "dockreg_pool_work_seconds",
        "histogram",
        "Time that work took in its thread: of the pool storage, the time of the disk.",
        _POOL,
        WORK_BUCKETS,
    ),
    Family("dockreg_database_writes", "counter", "Operations written to the database."),
    Family("dockreg_database_writes_waiting", "gauge", "Operations that wait for their commit."),
    Family(
        "dockreg_database_commit_seconds",
        "histogram",
        "Time of one commit, of many operations perhaps.",
        None,
        WORK_BUCKETS,
    ),
    Family(
        "dockreg_database_read_seconds",
        "histogram",
        "Time of one look-up that the reactor did itself.",
        None,
        WORK_BUCKETS,
    ),
    Family(
        "dockreg_reactor_delay_seconds",
        "histogram",
        "How late the reactor comes to a call that is due.",
        None,
        WORK_BUCKETS,
    ),
    Family(
        "dockreg_uploads_open",
        "gauge",
        "Upload sessions that are neither finished nor given up.",
        is_shared=True,
    ),
    Family("dockreg_disk_free_bytes", "gauge", "Free space of the disk with the data.", is_shared=True),
    Family("dockreg_disk_size_bytes", "gauge", "Size of the disk with the data.", is_shared=True),
    Family(
        "dockreg_gc_last_run_timestamp_seconds",
        "gauge",
        "When garbage was last collected.",
        is_shared=True,
        stays=True,
    ),
    Family(
        "dockreg_gc_removed_items", "counter", "Blobs and manifests that collections of the server removed."
    ),
    Family("dockreg_gc_removed_bytes", "counter", "Their bytes."),
    Family("dockreg_gc_failures", "counter", "Collections that failed."),
    Family(
        "dockreg_scrub_last_end_timestamp_seconds",
        "gauge",
        "When a pass of the scrub last came to its end.",
        is_shared=True,
        stays=True,
    ),
    Family(
        "dockreg_scrub_checked_blobs", "gauge", "Blobs checked by the present or last pass.", is_shared=True
    ),
    Family("dockreg_scrub_damaged", "gauge", "Damage found by the present or last pass.", is_shared=True),
    Family("dockreg_workers", "gauge", "Processes that serve."),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each number lies: by family, then by label values."""

    places: Mapping[str, Mapping[tuple[str, ...], int]]
    slots: int
    #: Differs between releases that lay their numbers out differently.
    fingerprint: int


def _lay_out(families: Iterable[Family]) -> Layout:
    places: dict[str, dict[tuple[str, ...], int]] = {}
    at = 0
    for family in families:
        places[family.name] = {}
        for values in family.label_values:
            places[family.name][values] = at
            at += family.width
    digest = hashlib.sha256(repr(tuple(families)).encode()).digest()
    return Layout(places, at, int.from_bytes(digest[:6], "big"))


LAYOUT = _lay_out(FAMILIES)


class RequestPlace(NamedTuple):
    """Where requests of one endpoint and method are counted: the first slot of each family."""

    status: int
    duration: int
    received: int
    sent: int


def request_place(endpoint: str, method: str) -> RequestPlace:
    """Return where such requests are counted."""
    endpoint = endpoint if endpoint in ENDPOINTS else "other"
    method = method if method in METHODS else "other"
    names = (
        "dockreg_request_duration_seconds",
        "dockreg_request_received_bytes",
        "dockreg_response_sent_bytes",
    )
    first = LAYOUT.places["dockreg_requests"][endpoint, method, CLASSES[0]]
    return RequestPlace(first, *(LAYOUT.places[name][endpoint, method] for name in names))


class Counts:
    """The numbers of one process, added to by its reactor's thread alone.

    Args:
        slots: where they lie; None for memory of this process's own.
    """

    def __init__(self, slots: Slots | None = None) -> None:
        self.slots: Slots = array("d", bytes(8 * LAYOUT.slots)) if slots is None else slots

    def add(self, name: str, amount: float = 1.0, *labels: str) -> None:
        """Add to a counter or gauge."""
        self.slots[LAYOUT.places[name][labels]] += amount

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        self.slots[LAYOUT.places[name][labels]] = value

    def adder(self, name: str, *labels: str) -> Callable[[], None]:
        """Return what counts one more, for those who count often."""
        slots, at = self.slots, LAYOUT.places[name][labels]

        def add() -> None:
            slots[at] += 1

        return add

    def forget_shared(self) -> None:
        """Leave what is known about the registry as a whole to the next process."""
        for family in FAMILIES:
            if family.is_shared and not family.stays:
                self.set(family.name, 0.0)

    def add_request(
        self, place: RequestPlace, status: int, duration_seconds: float, received_bytes: int, sent_bytes: int
    ) -> None:
        """Count a request that ended."""
        slots = self.slots
        slots[place.status + status // 100 - 1] += 1
        at = place.duration
        slots[at + bisect_left(REQUEST_BUCKETS, duration_seconds)] += 1
        slots[at + len(REQUEST_BUCKETS) + 1] += duration_seconds
        if received_bytes:
            slots[place.received] += received_bytes
        if sent_bytes:
            slots[place.sent] += sent_bytes

    def timer(self, name: str, *labels: str) -> Timer:
        """Return what notes durations in a histogram of ``WORK_BUCKETS``."""
        return Timer(self.slots, LAYOUT.places[name][labels])


class Timer:
    """Notes durations in one histogram."""

    __slots__ = ("_at", "_slots")

    def __init__(self, slots: Slots, at: int) -> None:
        self._slots = slots
        self._at = at

    def note(self, seconds: float) -> None:
        """Note how long something took."""
        self._slots[self._at + bisect_left(WORK_BUCKETS, seconds)] += 1
        self._slots[self._at + len(WORK_BUCKETS) + 1] += seconds


def totals(regions: Iterable[Sequence[float]]) -> list[float]:
    """Return the numbers of several processes as one."""
    found = [list(region) for region in regions] or [[0.0] * LAYOUT.slots]
    summed = [sum(each) for each in zip(*found, strict=True)]
    for family in FAMILIES:
        if family.is_shared:
            for at in LAYOUT.places[family.name].values():
                summed[at] = max(region[at] for region in found)
    return summed


#: Doubles before the regions: fingerprint, and a number that is odd while the parent moves counts.
_HEADER_SLOTS = 2
#: Workers that serve or still end their requests; region 0 has the counts of those that are gone.
REGIONS = 128


class SharedCounts:
    """The numbers of a parent and its workers, in memory that all of them map.

    Args:
        descriptor: of that memory, made by ``shared_memory``.
    """

    def __init__(self, descriptor: int) -> None:
        size_bytes = os.fstat(descriptor).st_size
        self._memory: Slots = memoryview(mmap.mmap(descriptor, size_bytes)).cast("d")
        self._used = {0}

    def is_ours(self) -> bool:
        """Tell whether the release that made the memory lays numbers out as we do."""
        return self._memory[0] == LAYOUT.fingerprint and len(self._memory) == _size_slots()

    def region(self, number: int) -> Slots:
        """Return the slots of one process."""
        start = _HEADER_SLOTS + number * LAYOUT.slots
        return self._memory[start : start + LAYOUT.slots]

    def take(self) -> int:
        """Return the number of a region that nobody uses; 0 when there is none. Of the parent alone."""
        number = next((each for each in range(1, REGIONS) if each not in self._used), 0)
        self._used.add(number)
        return number

    def give_back(self, number: int) -> None:
        """Keep the counts of a process that is gone, and forget its gauges. Of the parent alone."""
        if number == 0:
            return
        region, gone = self.region(number), self.region(0)
        self._memory[1] += 1
        for family in FAMILIES:
            for first in LAYOUT.places[family.name].values():
                for at in range(first, first + family.width):
                    if family.kind != "gauge":
                        gone[at] += region[at]
                    elif family.stays:
                        gone[at] = max(gone[at], region[at])
                    region[at] = 0.0
        self._memory[1] += 1
        self._used.discard(number)

    def totals(self) -> list[float]:
        """Return the numbers of all processes as one. Takes milliseconds: not for the reactor's thread."""
        while True:
            before = self._memory[1]
            # A region that was never written has no count: its pages need not be looked at.
            regions = [self.region(number) for number in range(REGIONS)]
            used = [region.tolist() for region in regions if region[_PRESENT]]
            found = totals([self.region(0).tolist(), *used])
            if before == self._memory[1] and before % 2 == 0:
                return found


#: Every worker that serves has a 1 here.
_PRESENT = LAYOUT.places["dockreg_workers"][()]


def _size_slots() -> int:
    return _HEADER_SLOTS + REGIONS * LAYOUT.slots


def shared_memory() -> int:
    """Return a descriptor of memory for a parent and its workers, without any counts; pages come with use."""
    descriptor = os.memfd_create("dockreg-metrics")
    os.ftruncate(descriptor, 8 * _size_slots())
    os.write(descriptor, array("d", [LAYOUT.fingerprint]).tobytes())
    return descriptor
