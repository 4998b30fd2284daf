"""What a parent tells its workers, and what they tell it: one JSON object a line, on pipes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dockreg_tx.settings import Settings, settings_of
from dockreg_tx.settings_sources import Found

#: Descriptors of a worker beside the standard ones: its words to the parent, the memory with the connection
#: counts, that with the metrics, then the listening sockets.
STATUS_DESCRIPTOR = 3
COUNTS_DESCRIPTOR = 4
METRICS_DESCRIPTOR = 5
FIRST_LISTENER_DESCRIPTOR = 6
#: Orders to a worker. Both end it; a retiring one lets idle connections make one more request.
STOP = "stop"
RETIRE = "retire"
#: Asks a worker why parts of the registry do not work.
EXAMINE = "examine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """Everything a worker has to know; it comes through a pipe, so that no secret is on a command line."""

    number: int
    #: Does what one process of a server does: sweeps, collections.
    is_leader: bool
    instance_id: str
    #: Its part of the memory with the metrics; 0 when all are taken.
    metrics_region: int
    #: ``text`` or ``json``.
    log_form: str
    #: Plain value, source and place of each ``section.key``.
    found: Mapping[str, tuple[object, str, str]]

    def settings(self) -> Settings:
        """Return the parent's settings, whatever their sources say by now."""
        return settings_of({key: Found(*each) for key, each in self.found.items()})


def brief_line(brief: Brief) -> bytes:
    """Return a brief as it is sent."""
    return json.dumps(asdict(brief)).encode() + b"\n"


def read_brief(line: bytes) -> Brief:
    """Return the brief that was sent."""
    return Brief(**json.loads(line))


def found_of(settings: Settings) -> dict[str, tuple[object, str, str]]:
    """Return what ``Brief.found`` is for these settings."""
    return {key: (each.plain, each.source, each.place) for key, each in settings.found.items()}


def word(**fields: object) -> bytes:
    """Return what a worker says."""
    return json.dumps(fields).encode() + b"\n"


def read_word(line: bytes) -> dict[str, Any]:
    """Return what a worker said; nothing if it makes no sense."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def worker_count(settings: Settings) -> int:
    """Return how many processes serve: ``auto`` is one for each core that we may run on."""
    workers = settings.server.workers
    return len(os.sched_getaffinity(0)) if workers == "auto" else workers
