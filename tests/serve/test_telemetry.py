"""Spans as a collector gets them: a client's trace goes on in the request, its picture, the queue and the device."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from serving import PICTURE

SUPPORT = Path(__file__).parent.parent / "support"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes what is exported: its address, and the bodies."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def spans_after(address: str, otel: bool, environment: dict[str, str]) -> tuple[int, str]:
    """Serve one edit; the exit status, and what was logged."""
    options = '{"otel": true}' if otel else "{}"
    command = [sys.executable, str(SUPPORT / "serve_fakes.py"), "0.01", options]
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_EXPORTER_OTLP_COMPRESSION": "none", **environment}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
    ) as process:
        assert process.stdout is not None
        with httpx.Client(base_url=process.stdout.readline().strip(), timeout=20) as client:
            headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            form = {"prompt": "a secret wish"}
            answer = client.post("/v1/images/edits", data=form, files={"image": PICTURE}, headers=headers)
            assert answer.status_code == 200
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    return process.returncode, err


def test_a_trace_goes_on(collector: tuple[str, list[bytes]]) -> None:
    address, bodies = collector
    code, err = spans_after(address, otel=True, environment={})
    assert code == 0, err
    spans: dict[str, Span] = {}
    for body in bodies:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            assert names["service.name"] == "pixrt"
            spans |= {span.name: span for scope in resource.scope_spans for span in scope.spans}
    assert set(spans) == {"POST /v1/images/edits", "picture", "queue", "compute"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    request, picture = spans["POST /v1/images/edits"], spans["picture"]
    assert request.parent_span_id.hex() == PARENT
    assert picture.parent_span_id == request.span_id
    assert spans["queue"].parent_span_id == spans["compute"].parent_span_id == picture.span_id
    assert b"secret" not in b"".join(bodies)


def test_nothing_leaves_unless_it_is_asked_for(collector: tuple[str, list[bytes]]) -> None:
    """Not even if the variables that FastAPI itself would follow are set."""
    address, bodies = collector
    code, err = spans_after(address, otel=False, environment={"FASTAPI_OTEL_AUTO_CONFIGURE": "true"})
    assert (code, bodies) == (0, []), err
