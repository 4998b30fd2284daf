"""Log lines of workers, written by their parent: the only writer, so lines never mix."""

from __future__ import annotations

import json
from typing import TextIO

from twisted.logger import Logger, LogLevel

from dockreg_tx.logs import write_whole

#: A worker that sends more than this without a line end is not sending lines.
LINE_LIMIT_BYTES = 1024 * 1024


class Lines:
    """Whole lines out of what arrives in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take a piece and return the whole lines there are by now, with their ends."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if not end and len(data) > LINE_LIMIT_BYTES:
            data, end = data + b"\n", len(data) + 1
        self._rest = data[end:]
        return data[:end]


class DirectRelay:
    """Writes lines as they are: they have the form of our own."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, lines: bytes) -> None:
        """Write whole lines in one piece."""
        try:
            write_whole(self._out, lines.decode("utf-8", "replace"))
        except (OSError, ValueError):
            # The terminal or pipe is gone; serving goes on without it.
            return


class EventRelay:
    """Turns JSON lines into events again: for the log that twistd was told to write."""

    def __call__(self, lines: bytes) -> None:
        """Log each line."""
        for line in lines.splitlines():
            self._log(line)

    def _log(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            level, logger = LogLevel.levelWithName(event["level"]), Logger(namespace=event["logger"])
            if "msg" in event:
                text = f"[worker {event['worker']} pid {event['pid']}] {event['msg']}"
            else:
                # An entry of the access log in its form json.
                text = line.decode()
        except Exception:  # noqa: BLE001 - whatever this is, it must be seen
            Logger(namespace="dockreg").warn("{line}", line=line.decode("utf-8", "replace"))
            return
        logger.emit(level, "{line}", line="\n".join([text, *filter(None, [event.get("traceback")])]))
