"""How loads are offered, and what is made of their times."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench import spread, steady
from bench.reactor import Delays
from bench.sizes import Grown, verdicts
from bench.spread import ALL, ONE, Spread
from bench.steady import Steady
from tests.bench.samples import server

METRICS = """\
dockreg_reactor_delay_seconds_bucket{le="0.01"} 90.0
dockreg_reactor_delay_seconds_bucket{le="0.05"} 98.0
dockreg_reactor_delay_seconds_bucket{le="0.1"} 99.0
dockreg_reactor_delay_seconds_bucket{le="+Inf"} 100.0
dockreg_reactor_delay_seconds_count 100.0
"""


class SteadyTests(SynchronousTestCase):
    def test_due_times(self) -> None:
        """The load has its rate; it is the same for every server, and another in every round."""
        dues = list(steady.due_times(1000, 10, seed=1))
        self.assertApproximates(10_000, len(dues), 500)
        self.assertTrue(all(before <= after for before, after in pairwise(dues)))
        self.assertLess(dues[-1], 10)
        self.assertEqual(dues, list(steady.due_times(1000, 10, seed=1)))
        self.assertNotEqual(dues, list(steady.due_times(1000, 10, seed=2)))

    def test_percentile(self) -> None:
        """A percentile is a value that was measured."""
        values = [float(number) for number in range(100, 0, -1)]
        self.assertEqual(99.0, steady.percentile(values, 0.99))
        self.assertEqual(100.0, steady.percentile(values, 1))
        self.assertEqual(7.0, steady.percentile([7.0], 0.99))

    def test_verdict(self) -> None:
        """Twice the reference is allowed, and so is what nobody notices; the median of the rounds counts."""
        for own, other, is_met in [(39.0, 20.0, True), (41.0, 20.0, False), (19.0, 1.0, True)]:
            found = Steady("work", 10, {"dockreg": [own, 1000.0, own], "distribution": [other]})
            verdict = found.verdict()
            assert verdict is not None
            self.assertEqual(is_met, verdict.is_met, verdict)
        self.assertIs(None, Steady("work", 10, {"dockreg": [1.0]}).verdict())


class SpreadTests(SynchronousTestCase):
    def test_ratios(self) -> None:
        """The rates are compared as they are, and as they would be on cores without clients."""
        by_workers = {
            ONE: [Spread(1000, 0.5, 1.0)] * 3,
            ALL: [Spread(1500, 0.5, 1.5), Spread(9000, 0.5, 9.0), Spread(900, 0.5, 0.9)],
        }
        self.assertEqual(1.5, spread.ratio(by_workers))
        self.assertEqual(2.0, spread.alone_ratio(by_workers, cores=2))
        found = dict.fromkeys(spread.MUST, by_workers)
        self.assertEqual([False, False, True], [verdict.is_met for verdict in spread.verdicts(found)])
        self.assertIn("| 1.50× | 1.7× | 2.00× |", spread.table(found, 2))


class DelayTests(SynchronousTestCase):
    def test_delays(self) -> None:
        """Samples above 50 ms are counted, those of before left out."""
        after = Delays.parse(METRICS)
        self.assertEqual(100, after.total)
        self.assertEqual(0.1, after.bound(0.99))
        verdict = after.verdict("a part")
        self.assertEqual("2 of 100 above; p99 ≤ 100 ms", verdict.found)
        self.assertFalse(verdict.is_met)
        self.assertTrue(after.since(after).verdict("nothing").is_met)


class SizeTests(SynchronousTestCase):
    def test_verdicts(self) -> None:
        """The largest is compared with the smallest of dockreg, whatever others do."""
        folder = Path(self.mktemp())
        grown = [
            Grown(size, server(name, folder), started, {"page": [cost]})
            for name, size, cost, started in [
                ("dockreg", 1_000, 100.0, 0.4),
                ("dockreg", 100_000, 300.0, 0.4),
                ("dockreg", 1_000_000, 115.0, 1.4),
                ("distribution", 1_000, 100.0, 0.1),
                ("distribution", 100_000, 9000.0, 0.1),
            ]
        ]
        self.assertEqual(
            [("1.15×", True), ("1.4 s", False)], [(each.found, each.is_met) for each in verdicts(grown)]
        )
