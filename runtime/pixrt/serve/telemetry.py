"""OpenTelemetry: what happens to a picture, as spans in the one of its request, which FastAPI makes.

Without `start` nothing is recorded and nothing leaves. Must not import numpy or Pillow.
"""

from weakref import WeakKeyDictionary

from opentelemetry import context, trace
from opentelemetry.context import Context

from pixrt._version import __version__
from pixrt.serve.tickets import Ticket


def start() -> None:
    """Send spans from now on, by OTLP over HTTP; OpenTelemetry's own variables say where to. Needs the extra otel."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "pixrt", "service.version": __version__})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


class Spans:
    """Makes a span of every picture, and in it one of its waiting and one of its work on the device."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("pixrt", __version__, provider)
        self._requests: WeakKeyDictionary[Ticket, Context] = WeakKeyDictionary()

    def accepted(self, ticket: Ticket) -> None:
        """Remember the request that is being answered here."""
        self._requests[ticket] = context.get_current()

    def ended(self, ticket: Ticket) -> None:
        """Tell of a picture that has ended: no prompt and no picture, only what was made of them and when."""
        assert ticket.ended is not None
        created, ended = _ns(ticket.created), _ns(ticket.ended)
        facts: dict[str, str | int] = {
            "pixrt.task": ticket.asked.options.task,
            "pixrt.ticket": ticket.id,
            "pixrt.state": str(ticket.state),
            "pixrt.steps": ticket.steps,
        }
        request = self._requests.pop(ticket, None)
        picture = self._tracer.start_span("picture", request, start_time=created, attributes=facts)
        if ticket.result is not None:
            started = created + int(ticket.result.times.get("queue_ms", 0.0) * 1e6)
            inside = trace.set_span_in_context(picture)
            self._tracer.start_span("queue", inside, start_time=created).end(started)
            times = {f"pixrt.{name}": value for name, value in ticket.result.times.items()}
            self._tracer.start_span("compute", inside, start_time=started, attributes=times).end(ended)
        elif ticket.problem is not None and ticket.problem.status >= 500:
            picture.set_status(trace.StatusCode.ERROR, ticket.problem.code)
        picture.end(ended)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
