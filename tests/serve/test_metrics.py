"""What is counted: read as Prometheus reads it, and held against what was done."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from asking import ask
from pixrt.options.tasks import EditOptions, GenerateOptions
from pixrt.serve import health
from pixrt.serve.metrics import CacheLoad, Load, Metrics, router
from pixrt.serve.problems import Problem
from pixrt.serve.telemetry import Spans
from pixrt.serve.tickets import Asked, Output, Prediction, Result, State, Ticket
from serving import FakeService

TIMES = {
    "queue_ms": 250.0,
    "prepare_ms": 1.0,
    "text_ms": 2.0,
    "encode_ms": 4.0,
    "denoise_ms": 8.0,
    "denoise_share_ms": 5.0,
    "decode_ms": 16.0,
    "finish_ms": 32.0,
    "write_ms": 64.0,
}


def ended(state: State = State.DONE, *, took: float = 1.0, problem: Problem | None = None, **asked: Any) -> Ticket:
    asked = {"options": EditOptions(), "text": "a secret wish"} | asked
    ticket = Ticket("t1", Asked(**asked), "key:anna", Prediction(0, 1), lambda _: None)
    ticket.created, ticket.ended = 1000.0, 1000.0 + took
    ticket.state, ticket.problem = state, problem
    if state == State.DONE:
        ticket.result = Result(b"png", Output(), (8, 8), {}, TIMES, "ort-cpu")
    return ticket


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and labels, these in the order of their names, as a client reads it."""
    service = SimpleNamespace(metrics=metrics)
    app = FastAPI()
    app.include_router(router(service))  # type: ignore[arg-type]
    text = ask(app, "/metrics").text
    samples = [sample for family in parse_text(text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


def test_requests_are_counted_by_interface_and_status() -> None:
    metrics = Metrics()
    for status in (200, 200, 499, 400):
        metrics.answered("openai", status, 0.02)
    metrics.answered("jobs", 200, 3.0)
    found = values(metrics)
    assert found["pixrt_requests_total", "openai", "200"] == 2
    assert found["pixrt_requests_total", "openai", "499"] == 1
    assert sum(value for key, value in found.items() if key[0] == "pixrt_requests_total") == 5
    assert found["pixrt_request_seconds_count", "openai"] == 4
    assert found["pixrt_request_seconds_sum", "jobs"] == 3.0


def test_pictures_are_counted_by_how_they_ended() -> None:
    metrics = Metrics()
    late, full = Problem(504, "deadline_passed", "Too late."), Problem(507, "out_of_memory", "Too large.")
    for ticket in (
        ended(),
        ended(options=GenerateOptions()),
        ended(State.CANCELLED),
        ended(State.FAILED, problem=Problem(503, "worker_lost", "Again.", retry_after=1)),
        ended(State.FAILED, problem=late),
        ended(State.FAILED, problem=full),
    ):
        metrics.accepted(ticket)
        metrics.ended(ticket)
    metrics.refused("queue_full", 4)
    found = values(metrics)
    assert found["pixrt_pictures_total", "done", "edit"] == 1
    assert found["pixrt_pictures_total", "done", "generate"] == 1
    for outcome in ("cancelled", "failed", "late", "out_of_memory"):
        assert found["pixrt_pictures_total", outcome, "edit"] == 1
    assert found["pixrt_pictures_refused_total", "queue_full"] == 4


def test_time_is_split_as_triton_does() -> None:
    metrics = Metrics()
    metrics.ended(ended())
    found = values(metrics)
    sums = {stage: found["pixrt_picture_seconds_sum", stage] for stage in ("queue", "compute_input")}
    sums |= {stage: found["pixrt_picture_seconds_sum", stage] for stage in ("compute_infer", "compute_output")}
    expected = {"queue": 0.25, "compute_input": 0.001, "compute_infer": 0.030, "compute_output": 0.096}
    assert sums == pytest.approx(expected)


def test_how_long_pictures_took_beside_alone_and_beside_what_was_predicted() -> None:
    metrics = Metrics()
    ticket = ended(took=6.0)
    ticket.alone_seconds, ticket.promised = 2.0, Prediction(1001.0, 1004.0)
    metrics.ended(ticket)
    failed = ended(State.FAILED, problem=Problem(503, "worker_lost", "Again."))
    failed.alone_seconds = 1.0
    metrics.ended(failed)
    found = values(metrics)
    assert (found["pixrt_picture_slowdown_count",], found["pixrt_picture_slowdown_sum",]) == (1, 3.0)
    assert found["pixrt_picture_slowdown_bucket", "2.5"] == 0
    assert found["pixrt_picture_slowdown_bucket", "3.0"] == 1, "the objective's bound is a bucket's"
    assert (found["pixrt_picture_of_predicted_count",], found["pixrt_picture_of_predicted_sum",]) == (1, 1.5)


def test_what_has_not_happened_is_counted_as_zero() -> None:
    """Prometheus takes a counter that appears at 1 for one that was always there."""
    metrics = Metrics()
    metrics.accepted(ended())
    found = values(metrics)
    assert [found["pixrt_worker_restarts_total", reason] for reason in ("died", "stuck")] == [0, 0]
    outcomes = {key[1] for key in found if key[0] == "pixrt_pictures_total"}
    assert outcomes == {"done", "failed", "cancelled", "late", "out_of_memory"}


@pytest.mark.parametrize(
    ("ticket", "missed"),
    [
        (ended(took=1.0), 0),
        (ended(took=1.0, deadline_ms=1001), 0),
        (ended(took=1.0, deadline_ms=999), 1),
        (ended(State.FAILED, problem=Problem(504, "late", "Late."), deadline_ms=2000), 1),
        (ended(State.CANCELLED, deadline_ms=1), 0),
    ],
)
def test_deadlines_that_were_missed(ticket: Ticket, missed: int) -> None:
    metrics = Metrics()
    metrics.ended(ticket)
    assert values(metrics)["pixrt_deadline_misses_total",] == missed


def test_calls_and_restarts() -> None:
    metrics = Metrics()
    for rows in (3, 6, 7):
        metrics.ran("step", rows, 0.01)
    metrics.restarted("stuck")
    found = values(metrics)
    assert found["pixrt_call_rows_sum", "step"] == 16
    assert found["pixrt_call_rows_bucket", "step", "6.0"] == 2
    assert found["pixrt_call_seconds_count", "step"] == 3
    assert found["pixrt_worker_restarts_total", "stuck"] == 1


def test_what_is_so_now_is_asked_for_at_every_reading() -> None:
    metrics = Metrics()
    assert ("pixrt_ready",) not in values(metrics)
    counted = iter(range(1, 9))

    def load() -> Load:
        return Load(
            queued=next(counted),
            running=2,
            slots=8,
            seats=72,
            row_cap={"512x512": 12},
            caches={"sources": CacheLoad(hits=5, misses=7, bytes=100, limit_bytes=1000)},
            device_bytes={"weights": 1 << 30},
            results=3,
            result_bytes=4096,
            is_ready=True,
            backlog_seconds=12.5,
            memory_bytes={"front": 1 << 27, "worker": 1 << 31},
            memory_limit_bytes=1 << 32,
        )

    metrics.watch(load)
    assert values(metrics)["pixrt_pictures_waiting",] == 1
    found = values(metrics)
    assert found["pixrt_pictures_waiting",] == 2
    assert found["pixrt_ready",] == 1
    assert found["pixrt_row_cap", "512x512"] == 12
    assert found["pixrt_cache_hits_total", "sources"] == 5
    assert found["pixrt_cache_misses_total", "sources"] == 7
    assert found["pixrt_cache_bytes", "sources"] == 100
    assert found["pixrt_cache_limit_bytes", "sources"] == 1000
    assert found["pixrt_device_bytes", "weights"] == 1 << 30
    assert (found["pixrt_results",], found["pixrt_result_bytes",]) == (3, 4096)
    assert found["pixrt_backlog_seconds",] == 12.5
    assert (found["pixrt_memory_bytes", "front"], found["pixrt_memory_bytes", "worker"]) == (1 << 27, 1 << 31)
    assert found["pixrt_memory_limit_bytes",] == 1 << 32
    assert found["process_open_fds",] > 0


def test_openmetrics_for_those_who_ask_for_it() -> None:
    app = FastAPI()
    app.include_router(router(SimpleNamespace(metrics=Metrics())))  # type: ignore[arg-type]
    answer = ask(app, "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert {"pixrt", "pixrt_requests"} <= {family.name for family in parse_openmetrics(answer.text)}


def test_ready_says_why_not() -> None:
    service = FakeService()
    app = FastAPI()
    app.include_router(health.router(service))  # type: ignore[arg-type]
    assert ask(app, "/health/ready").json() == {"status": "ready"}
    service.is_ready = False
    answer = ask(app, "/health/ready")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"status": "not ready", "reason": "it is a fake"}
    assert ask(app, "/health/live").json() == {"status": "live"}


@pytest.fixture
def exporter() -> Iterator[tuple[InMemorySpanExporter, TracerProvider]]:
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter, provider
    provider.shutdown()


def test_a_picture_is_a_span_of_its_request(exporter: tuple[InMemorySpanExporter, TracerProvider]) -> None:
    spans, provider = exporter
    metrics, ticket = Metrics(Spans(provider)), ended()
    with trace.get_tracer("test", tracer_provider=provider).start_as_current_span("request") as request:
        metrics.accepted(ticket)
    metrics.ended(ticket)  # elsewhere, later
    made = {span.name: span for span in spans.get_finished_spans()}
    assert set(made) == {"request", "picture", "queue", "compute"}
    picture, queue, compute = made["picture"], made["queue"], made["compute"]
    assert picture.parent is not None
    assert picture.parent.span_id == request.get_span_context().span_id
    for part in (queue, compute):
        assert part.parent is not None
        assert part.parent.span_id == picture.context.span_id
    second = 1_000_000_000
    assert (picture.start_time, picture.end_time) == (1000 * second, 1001 * second)
    assert (queue.start_time, queue.end_time) == (1000 * second, 1000.25 * second)
    assert (compute.start_time, compute.end_time) == (1000.25 * second, 1001 * second)
    assert compute.attributes is not None
    assert compute.attributes["pixrt.denoise_ms"] == 8.0
    assert "wish" not in "".join(span.to_json() for span in made.values()), "no content"


def test_a_picture_that_failed_is_a_span_with_an_error(exporter: tuple[InMemorySpanExporter, TracerProvider]) -> None:
    spans, provider = exporter
    metrics = Metrics(Spans(provider))
    metrics.ended(ended(State.FAILED, problem=Problem(503, "worker_lost", "The worker died over 'a wish'.")))
    metrics.ended(ended(State.CANCELLED, problem=Problem(499, "cancelled", "Cancelled.")))
    failed, cancelled = spans.get_finished_spans()
    assert (failed.status.status_code, failed.status.description) == (trace.StatusCode.ERROR, "worker_lost")
    assert cancelled.status.status_code == trace.StatusCode.UNSET
