"""The page, its plots and the history."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from bench import history, page, plots
from bench.parts import Findings
from bench.sizes import Grown
from bench.verdicts import at_most
from tests.bench.samples import row, sample, server

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def findings() -> Findings:
    """Return a run of one row, with one promise that holds and one that does not."""
    found = Findings(rows=[row("a", must=4), row("zb: pull 1 MB", unit="ms")])
    found.samples = {"a": {"dockreg": [sample(1e-5)], "distribution": [sample(5e-5)]}}
    found.verdicts = [at_most("start", "time", 0.5, 1, " s"), at_most("idle", "memory", 80, 75, " MiB")]
    found.tables = {"Start and memory": "| a table |", "Nothing": ""}
    return found


class PageTests(SynchronousTestCase):
    def test_body(self) -> None:
        """The page tells machine, versions and promises before the rows, and leaves out what is empty."""
        text = page.body(findings(), ["- **zot**: v2"], {"a": 5.0}, first="Measured on a machine.")
        self.assertTrue(
            text.startswith("Measured on a machine.\n\n- **zot**: v2\n\n## What is promised\n\n1 of 2")
        )
        self.assertIn("| **missed** | idle | memory | 80 MiB | ≤ 75 MiB |", text)
        self.assertIn("| 5.00× | 4×, met | ▲ +100% |", text)
        self.assertIn("workloads of zot's benchmark", text)
        self.assertIn("## Start and memory\n\n| a table |", text)
        self.assertNotIn("Nothing", text)

    def test_write(self) -> None:
        """What is written by hand stays, what was measured before goes, and the history grows."""
        folder = Path(self.mktemp())
        folder.mkdir()
        self.patch(page, "PAGE", folder / "performance.md")
        self.patch(page, "PLOT", folder / "performance.svg")
        self.patch(history, "HISTORY", folder / "history.jsonl")
        page.PAGE.write_text(f"By hand.\n\n{page.MARK}\n\nOld figures.\n", encoding="utf-8")
        page.write(findings(), [server("zot", folder)], how="quick", now=NOW)
        text = page.PAGE.read_text(encoding="utf-8")
        self.assertTrue(text.startswith(f"By hand.\n\n{page.MARK}\n\nMeasured 2026-11-24 on "))
        self.assertNotIn("Old figures", text)
        ElementTree.fromstring(page.PLOT.read_text(encoding="utf-8"))
        (kept,) = history.load(history.HISTORY)
        self.assertEqual("2026-11-24T12:00:00+00:00", kept["at"])
        self.assertEqual([10.0, "µs", 100.0], kept["rows"]["a"]["dockreg"])
        self.assertEqual([True, False], [each["is_met"] for each in kept["verdicts"]])

    def test_growth_plot(self) -> None:
        """Cost against size is a line for each server and row, of pages only the middle."""
        found, folder = findings(), Path(self.mktemp())
        for size, cost in ((1_000, 100.0), (1_000_000, 110.0)):
            costs = {"tags/list in the middle": [cost], "tags/list at the end": [cost]}
            found.grown.append(Grown(size, server("dockreg", folder), 0.5, costs))
        drawn = ElementTree.fromstring(page.growth_plot(found))
        lines = drawn.findall("{http://www.w3.org/2000/svg}polyline")
        self.assertEqual(1, len(lines))
        self.assertEqual(2, len(lines[0].attrib["points"].split()))


class PlotTests(SynchronousTestCase):
    def test_bars(self) -> None:
        """A bar is as long as its ratio, and names are escaped."""
        drawn = ElementTree.fromstring(plots.bars("title", [("<a>", 4.0), ("b", 2.0)]))
        widths = [float(bar.attrib["width"]) for bar in drawn.findall("{http://www.w3.org/2000/svg}rect")]
        self.assertEqual([380.0, 190.0], widths)

    def test_nothing(self) -> None:
        """Without figures there is nothing to draw."""
        self.assertEqual("", plots.growth("title", {}))


class HistoryTests(SynchronousTestCase):
    def test_earlier(self) -> None:
        """A row is compared with the median of its runs on the same machine and in the same unit."""
        runs = [
            {"machine": machine, "rows": {"a": {"dockreg": [cost, unit, 1.0]}}}
            for machine, cost, unit in [
                ("this", 10.0, "µs"),
                ("this", 30.0, "µs"),
                ("this", 20.0, "µs"),
                ("this", 5.0, "ms"),
                ("other", 90.0, "µs"),
            ]
        ]
        self.assertEqual({"a": 20.0}, history.earlier(runs, [row("a"), row("b")], "this"))

    def test_kept(self) -> None:
        """Every run that the repository keeps can be read: same fields since the first one."""
        for run in history.load(history.HISTORY):
            self.assertEqual(set(), {"at", "commit", "machine", "how", "rows"} - run.keys())
            for by_server in run["rows"].values():
                for cost, unit, rate in by_server.values():
                    self.assertIn(unit, ("µs", "ms", "s"))
                    self.assertLess(0, rate)
                    self.assertLessEqual(0, cost)

    def test_append(self) -> None:
        """A run is one line."""
        file = Path(self.mktemp())
        for number in range(2):
            history.append({"number": number, "text": "ä\n"}, file)
        lines = file.read_text(encoding="utf-8").splitlines()
        self.assertEqual([0, 1], [json.loads(line)["number"] for line in lines])
