"""What the server counts and measures, for Prometheus. Must not import numpy or Pillow."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from pixrt._version import __version__
from pixrt.serve.telemetry import Spans
from pixrt.serve.tickets import State, Ticket

if TYPE_CHECKING:
    from pixrt.serve.service import Service

Kind = Literal["text", "encode", "step", "decode"]
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 192)
_TIMES_ALONE = (1, 1.25, 1.5, 2, 2.5, 3, 4, 6, 10, 20, 50, 100)
_OF_PREDICTED = (0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10)
# How Triton splits a request's time, and the stages of a picture that belong to each.
_STAGES: Mapping[str, tuple[str, ...]] = {
    "queue": ("queue_ms",),
    "compute_input": ("prepare_ms",),
    "compute_infer": ("text_ms", "encode_ms", "denoise_ms", "decode_ms"),
    "compute_output": ("finish_ms", "write_ms"),
}
_FAILURES = {504: "late", 507: "out_of_memory"}
_OUTCOMES = ("done", "failed", "cancelled", *_FAILURES.values())
_RESTARTS = ("died", "stuck")
_INSTANT = 1e-3  # seconds: the least that anything is divided by
disable_created_metrics()  # type: ignore[no-untyped-call]  # a second line for every counter


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLoad:
    """A cache of the worker; hits and misses are since it started."""

    hits: int
    misses: int
    bytes: int
    limit_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How busy the server is now.

    Attributes:
        queued: pictures that wait.
        running: pictures that have a slot.
        slots: how many the device has.
        seats: how many pictures may wait or run.
        row_cap: rows of a network call, as the policy bounds them now, by size ("512x512") of what is in use.
        device_bytes: memory of the device by what holds it.
        results: finished pictures that are kept for their clients.
        backlog_seconds: until all that is accepted is expected to be done.
        memory_bytes: resident memory of the front and of the worker, where the system tells it.
        memory_limit_bytes: what all of it has to fit into; 0 if it is not known.
    """

    queued: int
    running: int
    slots: int
    seats: int
    row_cap: Mapping[str, int] = field(default_factory=dict)
    caches: Mapping[str, CacheLoad] = field(default_factory=dict)
    device_bytes: Mapping[str, int] = field(default_factory=dict)
    results: int = 0
    result_bytes: int = 0
    is_ready: bool = False
    backlog_seconds: float = 0.0
    memory_bytes: Mapping[str, int] = field(default_factory=dict)
    memory_limit_bytes: int = 0


class Metrics:
    """The server's counters. `Service` and the guard report to it, each on the event loop."""

    def __init__(self, spans: Spans | None = None) -> None:
        self.registry = registry = CollectorRegistry()
        self._spans = Spans() if spans is None else spans
        self._load: Callable[[], Load] | None = None
        self._requests = Counter(
            "pixrt_requests",
            "Requests by the status of their answer; 499 is a client that went away before it.",
            ("interface", "status"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "pixrt_request_seconds",
            "From a request's head to the end of its answer.",
            ("interface",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._pictures = Counter(
            "pixrt_pictures", "Pictures that were accepted, by how they ended.", ("task", "outcome"), registry=registry
        )
        self._refused = Counter(
            "pixrt_pictures_refused", "Pictures that were not accepted, by why.", ("code",), registry=registry
        )
        self._stages = Histogram(
            "pixrt_picture_seconds",
            "Time of finished pictures, split as Triton does.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._slowdown = Histogram(
            "pixrt_picture_slowdown",
            "Time of finished pictures, as a multiple of what each would have taken alone.",
            buckets=_TIMES_ALONE,
            registry=registry,
        )
        self._of_predicted = Histogram(
            "pixrt_picture_of_predicted",
            "Time of finished pictures, as a multiple of what was predicted when each was accepted.",
            buckets=_OF_PREDICTED,
            registry=registry,
        )
        self._misses = Counter(
            "pixrt_deadline_misses", "Accepted pictures that were not done by their deadline.", registry=registry
        )
        self._call_rows = Histogram(
            "pixrt_call_rows", "Rows of a network call.", ("kind",), buckets=_ROWS, registry=registry
        )
        self._call_seconds = Histogram(
            "pixrt_call_seconds", "Time of a network call.", ("kind",), buckets=_SECONDS, registry=registry
        )
        self._restarts = Counter(
            "pixrt_worker_restarts", "Workers that were started again, by why.", ("reason",), registry=registry
        )
        for reason in _RESTARTS:  # Prometheus sees a counter grow only if it saw it before
            self._restarts.labels(reason)
        ProcessCollector(registry=registry)
        registry.register(_Now(self))

    def watch(self, load: Callable[[], Load]) -> None:
        """What to ask, whenever somebody reads the metrics, how busy the server is."""
        self._load = load

    def load(self) -> Load | None:
        """How busy the server is; None if nobody watches it."""
        return None if self._load is None else self._load()

    def answered(self, interface: str, status: int, seconds: float) -> None:
        """A request has its end: exactly once each."""
        self._requests.labels(interface, status).inc()
        self._request_seconds.labels(interface).observe(seconds)

    def accepted(self, ticket: Ticket) -> None:
        """A picture has a seat. Called in its request's context."""
        for outcome in _OUTCOMES:  # as above: whatever becomes of the first one is seen
            self._pictures.labels(ticket.asked.options.task, outcome)
        self._spans.accepted(ticket)

    def refused(self, code: str, pictures: int = 1) -> None:
        """Pictures were not accepted, for a Problem of this code."""
        self._refused.labels(code).inc(pictures)

    def ended(self, ticket: Ticket) -> None:
        """An accepted picture is done, failed or cancelled."""
        assert ticket.ended is not None
        status = 0 if ticket.problem is None else ticket.problem.status
        outcome = _FAILURES.get(status, "failed") if ticket.state == State.FAILED else str(ticket.state)
        self._pictures.labels(ticket.asked.options.task, outcome).inc()
        deadline = ticket.asked.deadline_ms
        if deadline is not None and ticket.state != State.CANCELLED:
            took_ms = (ticket.ended - ticket.created) * 1000
            self._misses.inc(ticket.state == State.FAILED or took_ms > deadline)
        if ticket.result is not None:
            for stage, names in _STAGES.items():
                seconds = sum(ticket.result.times.get(name, 0.0) for name in names) / 1000
                self._stages.labels(stage).observe(seconds)
            took = ticket.ended - ticket.created
            if ticket.alone_seconds:
                self._slowdown.observe(took / max(ticket.alone_seconds, _INSTANT))
            self._of_predicted.observe(took / max(ticket.promised.end - ticket.created, _INSTANT))
        self._spans.ended(ticket)

    def ran(self, kind: Kind, rows: int, seconds: float) -> None:
        """A network has run once."""
        self._call_rows.labels(kind).observe(rows)
        self._call_seconds.labels(kind).observe(seconds)

    def restarted(self, reason: str) -> None:
        """A worker has been started again: it had died, was stuck, or had run out of memory."""
        self._restarts.labels(reason).inc()


class _Now:
    """What is asked for at every reading, in the shape that prometheus-client collects."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked for when it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The metrics of now."""
        yield InfoMetricFamily("pixrt", "The program.", {"version": __version__})
        load = self._metrics.load()
        if load is None:
            return
        yield GaugeMetricFamily("pixrt_ready", "Whether pictures are made.", value=float(load.is_ready))
        yield GaugeMetricFamily("pixrt_pictures_waiting", "Pictures in the queue.", value=load.queued)
        yield GaugeMetricFamily("pixrt_pictures_running", "Pictures that have a slot.", value=load.running)
        yield GaugeMetricFamily("pixrt_slots", "Slots of the device.", value=load.slots)
        yield GaugeMetricFamily("pixrt_seats", "Pictures that may wait or run at most.", value=load.seats)
        text = "Until all that is accepted is expected to be done."
        yield GaugeMetricFamily("pixrt_backlog_seconds", text, value=load.backlog_seconds)
        yield GaugeMetricFamily("pixrt_results", "Finished pictures that are kept.", value=load.results)
        yield GaugeMetricFamily("pixrt_result_bytes", "Bytes of them.", value=load.result_bytes)
        yield _by("pixrt_row_cap", "Rows of a network call at most, as the policy bounds them.", "size", load.row_cap)
        yield _by("pixrt_device_bytes", "Memory of the device by what holds it.", "holder", load.device_bytes)
        yield _by("pixrt_memory_bytes", "Resident memory of a process.", "process", load.memory_bytes)
        text = "What the memory of all processes has to fit into; 0 if it is not known."
        yield GaugeMetricFamily("pixrt_memory_limit_bytes", text, value=load.memory_limit_bytes)
        caches = load.caches
        yield _by(
            "pixrt_cache_bytes", "Bytes of a cache.", "cache", {name: each.bytes for name, each in caches.items()}
        )
        limits = {name: each.limit_bytes for name, each in caches.items()}
        yield _by("pixrt_cache_limit_bytes", "Most bytes of a cache.", "cache", limits)
        hits = CounterMetricFamily("pixrt_cache_hits", "Values that a cache had.", labels=("cache",))
        misses = CounterMetricFamily("pixrt_cache_misses", "Values that a cache had not.", labels=("cache",))
        for name, each in caches.items():
            hits.add_metric((name,), each.hits)
            misses.add_metric((name,), each.misses)
        yield from (hits, misses)


def _by(name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def router(service: "Service") -> APIRouter:
    """`GET /metrics`."""
    routes = APIRouter(tags=["operations"])

    @routes.head("/metrics", include_in_schema=False)  # AIPerf asks so first
    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics(request: Request) -> Response:
        """Counters and gauges, as Prometheus reads them."""
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(service.metrics.registry), media_type=media_type)

    return routes
