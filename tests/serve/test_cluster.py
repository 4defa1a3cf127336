"""The server on Ray Serve: where a request goes, what is left at the desk, how many replicas there should be."""

import asyncio
import dataclasses
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

pytest.importorskip("ray")

from pixrt.errors import OptionError
from pixrt.options.serve import ServeOptions
from pixrt.serve.cluster.calls import KeptJob, call_of, owner_of, read_wish, wish
from pixrt.serve.cluster.desk import Desk
from pixrt.serve.cluster.gate import _Labelled
from pixrt.serve.cluster.routing import LeastWork
from pixrt.serve.cluster.scaling import wanted_replicas
from pixrt.serve.problems import Problem
from ray_serving import STEPS, Load, asking, cluster, edit, job


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/v1/jobs/abc123-00ff", "abc123"),
        ("/v1/jobs/abc123-00ff/result", "abc123"),
        ("/v1/jobs/abc123-00ff/events", "abc123"),
        ("/v1/jobs", ""),
        ("/v1/jobs/00ff", ""),
        ("/v1/jobs/abc123-00ff/other", ""),
        ("/v1/images/edits", ""),
    ],
)
def test_a_jobs_path_names_its_replica(path: str, owner: str) -> None:
    assert owner_of(path) == owner


@pytest.mark.parametrize(("replica", "lora"), [("", ""), ("a1", ""), ("", "winter"), ("", "replica:a1")])
def test_a_wish_is_read_as_it_was_written(replica: str, lora: str) -> None:
    assert read_wish(wish(replica, lora)) == (replica, lora)


def test_what_is_sent_on_can_be_sent() -> None:
    scope = {
        "type": "http",
        "path": "/x",
        "headers": [(b"a", b"b")],
        "state": {"client": "key:me", "request_id": "7", "notes": {"kept": object()}},
        "extensions": {"no": lambda: None},
    }
    call = pickle.loads(pickle.dumps(call_of(scope, b"body", "a1")))
    assert (call.scope["path"], call.scope["state"]["client"], call.body) == ("/x", "key:me", b"body")


class Id(NamedTuple):
    """Of a replica, as Ray's has it."""

    unique_id: str


def ranked(router: LeastWork, replicas: list[Any], text: str = "") -> list[str]:
    pending = SimpleNamespace(metadata=SimpleNamespace(multiplexed_model_id=text))
    return [rank[0].replica_id.unique_id for rank in asyncio.run(router.choose_replicas(replicas, pending))]


def replica(name: str, **stats: Any) -> Any:
    return SimpleNamespace(replica_id=Id(name), routing_stats=stats)


@pytest.fixture
def router() -> LeastWork:
    made = object.__new__(LeastWork)
    made.initialize_state()
    return made


def test_least_predicted_work_first(router: LeastWork) -> None:
    """And what was sent since a replica spoke counts, until it speaks again."""
    replicas = [
        replica("busy", at=1.0, work_s=3.0, picture_s=1.0),
        replica("idle", at=1.0, work_s=0.5, picture_s=1.0),
        replica("new"),
    ]
    assert ranked(router, replicas) == ["new", "idle", "busy"]
    idle = replicas[1].replica_id
    for _ in range(4):
        router.on_request_routed(SimpleNamespace(), idle, None)
    assert ranked(router, replicas) == ["new", "busy", "idle"]
    replicas[1].routing_stats["at"] = 2.0
    assert ranked(router, replicas) == ["new", "idle", "busy"]
    assert ranked(router, replicas, wish("busy", "")) == ["busy"]
    assert ranked(router, replicas, wish("gone", "")) == ["new", "idle", "busy"]
    replicas[0].routing_stats["loras"] = ("winter",)
    assert ranked(router, replicas, wish("", "winter"))[0] == "busy"


@pytest.mark.parametrize(
    ("work_ms", "now", "wanted"),
    [(0, 1, 1), (999, 1, 1), (1001, 1, 2), (5500, 2, 6), (0, 3, 1), (1400, 3, 3), (900, 3, 2), (400, 2, 1)],
)
def test_replicas_for_work(work_ms: float, now: int, wanted: int) -> None:
    """Shares of a second: more at once, fewer when what is left would be half of the fewer's."""
    assert wanted_replicas(work_ms, 1000, now) == wanted


def test_the_desk_keeps_what_is_left() -> None:
    desk = Desk(3 * 4096 + 25, 600)
    desk.here("a")
    assert desk.names() == ["a"]
    jobs = {f"a-{n}": KeptJob("me", {"id": f"a-{n}"}, "image/png", bytes(10)) for n in range(4)}
    desk.leave(jobs)
    assert desk.find("a-0", "me") == (True, None)  # too much: the oldest went
    assert desk.find("a-3", "me") == (True, jobs["a-3"])
    assert desk.find("a-3", "another") == (True, None)
    desk.gone("a")
    assert desk.find("a-2", "me") == (False, jobs["a-2"])
    desk.forget("a-2")
    assert [each.described["id"] for each in desk.of("me")] == ["a-3"]


def test_metrics_of_several_have_their_names() -> None:
    text = '# HELP pixrt_x_total What.\n# TYPE pixrt_x_total counter\npixrt_x_total{a="1"} 2.0\n'
    (family,) = _Labelled({"one": text, "two": text}).collect()
    found = {(sample.name, sample.labels["replica"], sample.labels["a"], sample.value) for sample in family.samples}
    assert found == {("pixrt_x_total", name, "1", 2.0) for name in ("one", "two")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": 2},
        {"max_replicas": 3},
        {"replica_gpus": 1.0},
        {"ray": True, "share_ms": 10.0},
        {"ray": True, "replicas": 4, "max_replicas": 2},
    ],
)
def test_options_that_would_do_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        ServeOptions(**wrong)


def test_a_problem_of_a_job_that_was_left_can_be_sent() -> None:
    kept = KeptJob("me", {}, problem=Problem(504, "deadline", "Too late.", retry_after=None))
    again = pickle.loads(pickle.dumps(kept))
    assert (again.problem.status, again.problem.code) == (504, "deadline")
    assert dataclasses.replace(again, problem=None) == dataclasses.replace(kept, problem=None)


@pytest.mark.slow
def test_a_cluster(tmp_path: Path) -> None:
    """Two replicas: the pictures of one server; renewed under load without a failed request; one killed under load."""
    with cluster(8791, replicas=2) as up:
        assert [edit(up.address).status_code for _ in range(4)] == [200] * 4
        up.wait(lambda: len(up.replicas()) == 2)
        before = up.replicas()
        edits, jobs = Load(asking(up.address), 3), Load(lambda: job(up.address), 1)
        up.say(queue=33)
        up.renew()
        up.wait(lambda: not up.replicas() & before)
        assert edits.stop().keys() == {"200"}
        assert jobs.stop().keys() == {"its picture: 200"}
        edits = Load(asking(up.address), 3)
        up.kill_replica()
        up.wait(lambda: len(up.replicas()) == 2 and edits.answers["200"] > 3 * STEPS)
        answers = edits.stop()
        assert answers.keys() <= {"200", "503, try again"}
        assert answers["503, try again"] <= 3
