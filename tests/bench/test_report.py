"""What samples come to: the table and the verdicts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from bench import report, verdicts
from tests.bench.samples import row, sample


class TableTests(SynchronousTestCase):
    def test_ratio(self) -> None:
        """The ratio is that of the medians, and says whether the promise holds."""
        every = [row("a", must=4), row("b", must=4), row("c")]
        samples = {
            "a": {"dockreg": [sample(1e-5), sample(9e-5), sample(2e-5)], "distribution": [sample(8e-5)]},
            "b": {"dockreg": [sample(1e-5)], "distribution": [sample(2e-5)]},
            "c": {"dockreg": [sample(1e-5)], "nginx": [sample(1e-5)]},
        }
        head, _, *lines = report.table(every, samples).splitlines()
        self.assertEqual(
            "| work | dockreg | distribution | nginx | ratio | must | since earlier runs |", head
        )
        self.assertEqual(
            "| a | 20 µs (10–90), 100/s | 80 µs (80–80), 100/s | – | 4.00× | 4×, met |  |", lines[0]
        )
        self.assertIn("| 2.00× | 4×, **missed** |", lines[1])
        self.assertIn("| – |  |  |", lines[2])

    def test_change(self) -> None:
        """A row that got dearer by more than a tenth has an arrow up, a cheaper one an arrow down."""
        every = [row(name) for name in ("dearer", "cheaper", "as it was", "new")]
        samples = {each.name: {"dockreg": [sample(1e-4)]} for each in every}
        earlier = {"dearer": 80.0, "cheaper": 200.0, "as it was": 99.0}
        lines = report.table(every, samples, earlier).splitlines()[2:]
        self.assertEqual(
            ["▲ +25%", "▼ -50%", "+1%", ""], [line.split(" | ")[-1].strip(" |") for line in lines]
        )


class VerdictTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """A row is measured by its ratio, uploads by their rate, and downloads beside nginx, too."""
        every = [
            row("blob of 256 MiB pushed by PUT, 1 connection", must=1.5, unit="s"),
            row("blob of 1,024 MiB, GET, 1 connection", unit="s"),
            row("small image pushed, 1 client", must=1.3),
            row("small image pushed to a real disk, 1 client"),
            row("never measured", must=4),
        ]
        own, other = sample(1.0, rate=3), sample(1.6, rate=2)
        timed, slower = sample(1.0, median_seconds=0.002), sample(2.0, median_seconds=0.001)
        samples = {
            every[0].name: {"dockreg": [own], "distribution": [other]},
            every[1].name: {"dockreg": [sample(1.2)], "nginx": [sample(1.0)]},
            every[2].name: {"dockreg": [timed], "distribution": [slower]},
            every[3].name: {"dockreg": [own], "distribution": [other]},
        }
        found = verdicts.of_rows(every, samples)
        self.assertEqual(
            [
                ("CPU, distribution ÷ dockreg", "1.6×", True),
                ("rate, dockreg ÷ distribution", "1.5×", True),
                ("CPU, dockreg ÷ nginx", "1.2×", False),
                ("CPU, distribution ÷ dockreg", "2×", True),
                ("p50", "2 ms", False),
                ("rate, dockreg ÷ distribution", "1.5×", True),
            ],
            [(each.measure, each.found, each.is_met) for each in found],
        )

    def test_table(self) -> None:
        """What is missed stands first."""
        found = [verdicts.at_most("b", "time", 0.5, 1, " s"), verdicts.at_least("a", "rate", 1, 2)]
        self.assertEqual(
            ["| **missed** | a | rate | 1× | ≥ 2× |", "| met | b | time | 0.5 s | ≤ 1 s |"],
            verdicts.table(found).splitlines()[2:],
        )
