"""Requests that nobody means well with, and those that schemathesis makes of the server's own document.

More of them: benchmarks/serving_fuzz.py and benchmarks/serving_schema.py.
"""

import itertools
import json
from typing import Any

import pytest

from figures.process import Served
from figures.wire import Answer
from fuzzing.cases import EDITS, KINDS, Case, cases
from serving_fuzz import Document, fuzz
from serving_schema import check

ERROR = {"error": {"message": "m", "type": "server_error", "param": None, "code": "c"}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_sent_is_answered(kind: str) -> None:
    outcome, faults, _ = fuzz(1, 150 if kind == "bombs" else 600, (kind,))
    assert [f"{case.name}: {fault}" for case, fault in outcome.wrong] == []
    assert faults == []
    assert outcome.statuses.total() >= 150


@pytest.mark.slow
def test_what_schemathesis_makes_of_the_document(request: pytest.FixtureRequest) -> None:
    status, printed = check(request.config.cache.mkdir("schemathesis"), 10, 1)
    assert status == 0, printed
    assert " passed" in printed


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_sends_the_same_requests(kind: str) -> None:
    first, again, other = ([*itertools.islice(cases(seed, [kind]), 30)] for seed in (1, 1, 2))
    assert first == again != other


@pytest.fixture(scope="module")
def document() -> Document:
    with Served("--backend", "null") as server:
        return Document(server.address)


@pytest.mark.parametrize(
    ("status", "kind", "body", "fault"),
    [
        (400, "application/json", ERROR, ""),
        (504, "application/json", ERROR, ""),
        (500, "application/json", ERROR, "status 500"),
        (503, "application/json", ERROR, "status 503"),
        (418, "application/json", ERROR, "not documented"),
        (400, "text/plain", "m", "type 'text/plain' is not documented"),
        (400, "application/json", {"error": "m"}, "body is not as documented"),
        (400, "application/json", {"error": "Traceback (most"}, "tells of the inside"),
        (0, "", "", "closed without an answer"),
    ],
)
def test_what_is_wrong_is_seen(document: Document, status: int, kind: str, body: Any, fault: str) -> None:
    answer = Answer(status, {"content-type": kind}, json.dumps(body).encode())
    found = document.fault(Case("a case", "POST", EDITS, b""), answer)
    assert (fault in found) if fault else found == ""
