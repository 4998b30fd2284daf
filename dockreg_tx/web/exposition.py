"""``/metrics``: the counters in Prometheus' words, for a guarded route and for a listener of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from dockreg_tx.metrics import FAMILIES, LAYOUT, Family
from dockreg_tx.ports import Blocking
from dockreg_tx.web.answers import Answer
from dockreg_tx.web.calls import Call
from dockreg_tx.web.health import debug_answer

#: Returns the numbers of all processes of this server.
Totals = Callable[[], Sequence[float]]
#: Returns why parts of this server do not work, by their names; empty when all do.
Reasons = Callable[[], Awaitable[Mapping[str, str]]]


class Exposition:
    """Renders the counters, in a thread.

    Args:
        totals: asked each time, in that thread.
        blocking: has the thread.
        version: of this program.
    """

    def __init__(self, *, totals: Totals, blocking: Blocking, version: str) -> None:
        self._totals = totals
        self._blocking = blocking
        self._version = version

    async def get(self, call: Call) -> Answer:
        """Answer the counters."""
        return await self.answer(call.headers.get("Accept") or "")

    async def answer(self, accept: str) -> Answer:
        """Return the counters in the form that ``accept`` asks for: Prometheus' text, or OpenMetrics."""
        body, content_type = await self._blocking.run(self._render, accept)
        return Answer(200, (("Content-Type", content_type), ("Cache-Control", "no-store")), body)

    def _render(self, accept: str) -> tuple[bytes, str]:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Families(self._totals(), self._version))
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type


class _Families(Collector):
    """Makes families of numbers."""

    def __init__(self, numbers: Sequence[float], version: str) -> None:
        self._numbers = numbers
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Yield every family; of those with labels, the combinations that have happened."""
        build = GaugeMetricFamily("dockreg_build_info", "The release that runs.", labels=["version"])
        build.add_metric([self._version], 1.0)
        yield build
        for family in FAMILIES:
            yield self._metric(family)

    def _metric(self, family: Family) -> Any:
        made = _MAKERS[family.kind](family.name, family.help, labels=family.label_names)
        for values, at in LAYOUT.places[family.name].items():
            numbers = self._numbers[at : at + family.width]
            if family.labels and family.kind != "gauge" and not any(numbers):
                continue
            if family.kind == "histogram":
                *counts, total = numbers
                made.add_metric(values, _buckets(family.buckets, counts), sum_value=total)
            else:
                made.add_metric(values, numbers[0])
        return made


_MAKERS: dict[str, Callable[..., Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _buckets(bounds: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    """Return how many were at most as large as each bound."""
    found, so_far = [], 0.0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        so_far += count
        found.append((floatToGoString(bound), so_far))
    return found


class MetricsResource(Resource):
    """``/metrics`` and ``/debug/health`` on a listener of their own, open to whoever reaches it.

    Args:
        exposition: of the counters.
        reasons: tells why parts of this server do not work, by their names.
    """

    isLeaf = True

    def __init__(self, exposition: Exposition, reasons: Reasons) -> None:
        super().__init__()
        self._exposition = exposition
        self._reasons = reasons

    def render_GET(self, request: Any) -> int:
        """Answer, unless the client goes before."""
        if request.path == b"/metrics":
            answering = self._exposition.answer(request.getHeader("accept") or "")
        elif request.path == b"/debug/health":
            answering = self._health()
        else:
            request.setResponseCode(404)
            request.finish()
            return NOT_DONE_YET
        gone: Deferred[object] = request.notifyFinish()
        gone.addErrback(lambda _: None)
        rendering = Deferred.fromCoroutine(answering)
        rendering.addCallbacks(lambda answer: _send(request, answer), lambda why: _fail(request, why))
        return NOT_DONE_YET

    async def _health(self) -> Answer:
        return debug_answer(await self._reasons())


def _send(request: Any, answer: Answer) -> None:
    if request.finished or request.channel is None:
        return
    request.setResponseCode(answer.status)
    for name, value in answer.headers:
        request.setHeader(name, value)
    request.setHeader("Content-Length", str(len(answer.body)))
    if request.method != b"HEAD":
        request.write(answer.body)
    request.finish()


def _fail(request: Any, why: Failure) -> Failure:
    if not request.finished and request.channel is not None:
        request.setResponseCode(500)
        request.finish()
    return why


class MetricsSite(Site):
    """What that listener serves. Its requests, those of one scraper, are in no log."""

    noisy = False

    def __init__(self, exposition: Exposition, reasons: Reasons, *, reactor: Any) -> None:
        super().__init__(MetricsResource(exposition, reasons), reactor=reactor)

    def log(self, request: Any) -> None:
        """Write nothing."""
