"""The counters: where numbers lie, how processes sum up, and what Prometheus makes of the page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from dockreg_tx.blocking import InlineBlocking
from dockreg_tx.metrics import (
    FAMILIES,
    LAYOUT,
    REGIONS,
    WORK_BUCKETS,
    Counts,
    SharedCounts,
    request_place,
    shared_memory,
    totals,
)
from dockreg_tx.web.exposition import Exposition

TOP = Path(__file__).parent.parent


def page(counts: Any, accept: str = "") -> str:
    """Return what is rendered of numbers."""
    exposition = Exposition(totals=counts, blocking=InlineBlocking(), version="1.2.3")
    coroutine = exposition.answer(accept)
    try:
        coroutine.send(None)
    except StopIteration as done:
        return str(done.value.body.decode())
    raise AssertionError("it waited")


def samples(text: str) -> dict[str, float]:
    """Return every sample of a page, with its labels as they are written."""
    return {
        sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def names_in(text: str) -> set[str]:
    """Return the metrics that a rule or dashboard names."""
    return set(re.findall(r"\bdockreg_[a-z_]+", text))


def exposed() -> set[str]:
    """Return every name that a query may use."""
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    return {family.name + suffix for family in FAMILIES for suffix in suffixes[family.kind]}


class CountsTests(SynchronousTestCase):
    def test_places(self) -> None:
        """No two numbers share a slot, and none lies outside."""
        taken = [
            at
            for family in FAMILIES
            for first in LAYOUT.places[family.name].values()
            for at in range(first, first + family.width)
        ]
        self.assertEqual(list(range(LAYOUT.slots)), taken)

    def test_request(self) -> None:
        """A request is counted by endpoint, method and class, with its duration and bytes."""
        counts = Counts()
        counts.add_request(request_place("blobs", "GET"), 206, 0.004, 0, 1000)
        counts.add_request(request_place("blobs", "GET"), 499, 100.0, 0, 0)
        counts.add_request(request_place("unknown", "BREW"), 404, 0.001, 7, 0)
        found = samples(page(lambda: totals([counts.slots])))
        route = "endpoint=blobs,method=GET"
        self.assertEqual(1.0, found[f"dockreg_requests_total,{route},status=2xx"])
        self.assertEqual(1.0, found[f"dockreg_requests_total,{route},status=4xx"])
        self.assertEqual(1000.0, found[f"dockreg_response_sent_bytes_total,{route}"])
        self.assertEqual(2.0, found[f"dockreg_request_duration_seconds_count,{route}"])
        self.assertEqual(100.004, found[f"dockreg_request_duration_seconds_sum,{route}"])
        bucket = "dockreg_request_duration_seconds_bucket,endpoint=blobs,le={},method=GET"
        self.assertEqual(
            [0.0, 1.0, 1.0, 2.0], [found[bucket.format(le)] for le in ("0.0025", "0.005", "60.0", "+Inf")]
        )
        self.assertEqual(7.0, found["dockreg_request_received_bytes_total,endpoint=other,method=other"])

    def test_timer(self) -> None:
        """A duration on a bound belongs to that bound; one above all has a bucket, too."""
        counts = Counts()
        timer = counts.timer("dockreg_database_read_seconds")
        timer.note(WORK_BUCKETS[0])
        timer.note(1000.0)
        found = samples(page(lambda: totals([counts.slots])))
        self.assertEqual(1.0, found["dockreg_database_read_seconds_bucket,le=0.0001"])
        self.assertEqual(1.0, found["dockreg_database_read_seconds_bucket,le=5.0"])
        self.assertEqual(2.0, found["dockreg_database_read_seconds_bucket,le=+Inf"])

    def test_openmetrics(self) -> None:
        """Who asks for OpenMetrics gets it."""
        text = page(lambda: totals([Counts().slots]), "application/openmetrics-text; version=1.0.0")
        self.assertTrue(text.endswith("# EOF\n"))

    def test_help(self) -> None:
        """Every family is explained, also while it has no samples."""
        text = page(lambda: totals([Counts().slots]))
        for family in FAMILIES:
            suffix = "_total" if family.kind == "counter" else ""
            self.assertIn(f"# HELP {family.name}{suffix} {family.help}\n", text)


class SharedTests(SynchronousTestCase):
    """A parent and its workers."""

    def setUp(self) -> None:
        descriptor = shared_memory()
        self.addCleanup(os.close, descriptor)
        self.parent = SharedCounts(descriptor)
        self.worker = SharedCounts(descriptor)

    def join(self) -> tuple[int, Counts]:
        """Return a region and the counts of a worker in it."""
        number = self.parent.take()
        counts = Counts(self.worker.region(number))
        counts.set("dockreg_workers", 1)
        return number, counts

    def value(self, name: str) -> float:
        """Return a sum."""
        return self.parent.totals()[LAYOUT.places[name][()]]

    def test_sum(self) -> None:
        """Counters and gauges of workers sum up; of what is shared the largest counts."""
        for amount in (3, 4):
            _, counts = self.join()
            counts.add("dockreg_database_writes", amount)
            counts.set("dockreg_connections", amount)
            counts.set("dockreg_uploads_open", amount)
        self.assertTrue(self.worker.is_ours())
        self.assertEqual(7.0, self.value("dockreg_database_writes"))
        self.assertEqual(7.0, self.value("dockreg_connections"))
        self.assertEqual(4.0, self.value("dockreg_uploads_open"))
        self.assertEqual(2.0, self.value("dockreg_workers"))

    def test_gone(self) -> None:
        """Counters never fall when a worker is gone; its gauges end with it, but for what stays true."""
        number, counts = self.join()
        _, other = self.join()
        counts.add("dockreg_database_writes", 5)
        counts.timer("dockreg_database_commit_seconds").note(0.5)
        counts.set("dockreg_connections", 5)
        counts.set("dockreg_gc_last_run_timestamp_seconds", 1000)
        self.parent.give_back(number)
        other.add("dockreg_database_writes", 1)
        self.assertEqual(6.0, self.value("dockreg_database_writes"))
        self.assertEqual(0.0, self.value("dockreg_connections"))
        self.assertEqual(1000.0, self.value("dockreg_gc_last_run_timestamp_seconds"))
        self.assertEqual(1.0, self.value("dockreg_workers"))
        found = samples(page(self.parent.totals))
        self.assertEqual(1.0, found["dockreg_database_commit_seconds_count"])
        self.assertEqual(number, self.parent.take())

    def test_no_region_left(self) -> None:
        """With more workers than regions, the last ones count for themselves."""
        taken = [self.parent.take() for _ in range(REGIONS)]
        self.assertEqual([*range(1, REGIONS), 0], taken)
        self.parent.give_back(0)
        self.assertEqual(0, self.parent.take())

    def test_other_release(self) -> None:
        """Memory that another release laid out is noticed."""
        descriptor = os.memfd_create("other")
        self.addCleanup(os.close, descriptor)
        os.write(descriptor, bytes(4096))
        self.assertFalse(SharedCounts(descriptor).is_ours())

    def test_retiring(self) -> None:
        """A leader that retires leaves what is known of the registry to its successor."""
        _, old = self.join()
        old.set("dockreg_uploads_open", 9)
        old.forget_shared()
        self.assertEqual(0.0, self.value("dockreg_uploads_open"))


class ShippedTests(SynchronousTestCase):
    """What is shipped for Prometheus and Grafana."""

    def test_names(self) -> None:
        """Alert rules and the dashboard name metrics that there are."""
        for name in ("alerts.yml", "grafana-dashboard.json"):
            named = names_in((TOP / "etc" / name).read_text(encoding="utf-8"))
            self.assertTrue(named)
            self.assertEqual(set(), named - exposed(), name)

    def test_dashboard(self) -> None:
        """The dashboard is JSON with a query in each panel."""
        document = json.loads((TOP / "etc" / "grafana-dashboard.json").read_text(encoding="utf-8"))
        for panel in document["panels"]:
            self.assertTrue(panel["targets"][0]["expr"], panel["title"])

    def test_promtool(self) -> None:
        """Prometheus' own tool accepts the page and the rules."""
        if shutil.which("promtool") is None:
            raise SkipTest("promtool is not installed")
        counts = Counts()
        counts.add_request(request_place("blobs", "GET"), 206, 0.004, 0, 1000)
        text = page(lambda: totals([counts.slots]))
        for arguments, given in promtool_calls(text):
            done = subprocess.run(arguments, input=given, capture_output=True, text=True, check=False)
            self.assertEqual(0, done.returncode, done.stdout + done.stderr)


def promtool_calls(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield each call with its input."""
    yield ["promtool", "check", "metrics"], text
    yield ["promtool", "check", "rules", str(TOP / "etc" / "alerts.yml")], ""
    yield ["promtool", "check", "config", str(TOP / "etc" / "prometheus.yml")], ""
