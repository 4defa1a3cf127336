"""Answers of all replicas as one: lists of jobs, metrics, and what concerns all pictures of a client. Knows no Ray."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pixrt.ray.asking import Asked

Answer = tuple[str, int, bytes]
Gather = Callable[[Sequence[Answer]], tuple[int, str, bytes]]
_JSON = "application/json"
_MOST_LISTED = 1000


def of(asked: Asked) -> Gather | None:
    """How the answers to a request that all replicas get become one; None for a request that one answers."""
    return _GATHERS.get((asked.method, asked.path))


def _jobs(answers: Sequence[Answer]) -> tuple[int, str, bytes]:
    """Oldest first."""
    said = [json.loads(body) for _, status, body in answers if status == 200]
    data = sorted((job for each in said for job in each["data"]), key=lambda job: float(job["created"]))
    first: dict[str, Any] = said[0] if said else {"object": "list"}
    return 200, _JSON, json.dumps({**first, "data": data[-_MOST_LISTED:]}).encode()


def _progress(answers: Sequence[Answer]) -> tuple[int, str, bytes]:
    """Of the pictures that a client has anywhere; the one that is nearest to its end is told."""
    said = [json.loads(body) for _, status, body in answers if status == 200]
    if not said:
        return 503, _JSON, b"{}"
    found = max(said, key=lambda each: float(each["progress"]))
    found["eta_relative"] = max(each["eta_relative"] for each in said)
    found["state"]["job_count"] = sum(each["state"]["job_count"] for each in said)
    return 200, _JSON, json.dumps(found).encode()


def _interrupt(answers: Sequence[Answer]) -> tuple[int, str, bytes]:
    return 200, _JSON, b"{}"


def _metrics(answers: Sequence[Answer]) -> tuple[int, str, bytes]:
    """Every sample with the label `replica`."""
    families: dict[str, Metric] = {}
    for name, status, body in answers:
        if status != 200:
            continue
        for family in text_string_to_metric_families(body.decode()):
            kept = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            kept.samples += [each._replace(labels={**each.labels, "replica": name}) for each in family.samples]
    return 200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(_Held(families))


class _Held:
    """Metrics in the shape of a registry."""

    def __init__(self, families: dict[str, Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """All of them."""
        return list(self._families.values())


_GATHERS: dict[tuple[str, str], Gather] = {
    ("GET", "/v1/jobs"): _jobs,
    ("GET", "/metrics"): _metrics,
    ("GET", "/sdapi/v1/progress"): _progress,
    ("POST", "/sdapi/v1/interrupt"): _interrupt,
}
