"""The fleet's simulation: what queueing theory knows of it, that nothing is lost, and the same figures each time."""

import json
import math
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import fleet
from fleets.asking import PATTERNS, ask, kinds_of, replay, rows_of
from fleets.devices import FLEETS, named
from fleets.figures import figures
from fleets.replica import Replica, Request, State
from fleets.routing import ROUTERS
from fleets.running import Failures, Fleet, Ran, run
from fleets.scaling import Scaler, Scaling
from fleets.sizing import fewest, need, work_of
from loads.traffic import Traffic
from pixrt.dispatch.demand import Bucket
from pixrt.dispatch.simulation import Arrival, Simulation
from pixrt.errors import OptionError
from pixrt.serve.devices import Device

A100 = FLEETS["a100"]
SERVICE = 0.1
BUCKET = Bucket("one", slots=1, most_rows=1)
ONE_ROW = Device(512, {1: 1000 * SERVICE}, 0.0, 0.0)  # a request is a row of one step, and nothing beside it


def poisson(rate: float, count: int, seed: int) -> Traffic:
    """Requests of one row, Poisson arrivals, without deadlines."""
    drawn, at, arrivals = random.Random(seed), 0.0, []
    for _ in range(count):
        at += drawn.expovariate(rate)
        arrivals.append(Arrival(at, BUCKET, (1,)))
    return Traffic(ONE_ROW, arrivals, rate * SERVICE)


def waits(ran: Ran, warm: int) -> list[float]:
    return [each.latency - SERVICE for each in ran.requests[warm:]]


def interval(means: Sequence[float]) -> tuple[float, float]:
    """99.9 % of independent means: Student's t with 11 degrees of freedom."""
    assert len(means) == 12
    half = 4.437 * statistics.stdev(means) / math.sqrt(len(means))
    return statistics.mean(means) - half, statistics.mean(means) + half


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_the_mean_wait_is_pollaczek_and_khinchines(load: float) -> None:
    """M/D/1: rho S / (2 (1 - rho)), of a request of one row on one replica, first come, first served."""
    means = [statistics.mean(waits(run(Fleet(1), poisson(load / SERVICE, 1500, seed)), warm=200)) for seed in range(12)]
    low, high = interval(means)
    assert low <= load * SERVICE / (2 * (1 - load)) <= high
    assert high - low < 0.6 * load * SERVICE / (1 - load), "the interval says nothing"


@pytest.mark.parametrize("router", ROUTERS)
def test_a_fleet_that_has_too_much_to_do_makes_what_it_can(router: str) -> None:
    replicas, seats = 3, 10
    ran = run(Fleet(replicas, router, seats=seats), poisson(1.5 * replicas / SERVICE, 2000, 1))
    told = figures(ran)
    assert told["per_second"] == pytest.approx(replicas / SERVICE, rel=0.01)
    assert told["utilisation"] == pytest.approx(1, abs=0.01)
    assert told["refused"] > 500
    assert max(each.latency for each in ran.requests if each.is_made) <= seats * SERVICE + 1e-9


def test_one_replica_is_the_server_s_own_simulation() -> None:
    traffic = ask(A100, "edits", 1.3, 60.0, 1)
    ran, alone = run(Fleet(1), traffic), Simulation(traffic.costs(), seats=72).run(traffic.arrivals)
    for request, outcome in zip(ran.requests, alone.outcomes, strict=True):
        assert request.outcome is not None
        assert request.outcome.refusal == outcome.refusal
        assert request.outcome.end == pytest.approx(outcome.end, nan_ok=True)


def test_in_turn_each_replica_has_its_share_and_knows_nothing_of_the_others() -> None:
    traffic = ask(A100, "edits", 2.5, 40.0, 2, slo=None)
    ran = run(Fleet(2, "round-robin"), traffic)
    for first in (0, 1):
        own = Simulation(traffic.costs()).run(traffic.arrivals[first::2])
        ends = [request.arrival.at + request.latency for request in ran.requests[first::2]]
        assert ends == pytest.approx([outcome.end for outcome in own.outcomes])


# What fails, scales and drains.


def test_what_a_dead_replica_had_under_way_comes_back() -> None:
    costs = A100.costs([bucket := Bucket("b", 8, 24)])
    replica = Replica(costs, 0.0, state=State.READY)
    alone = costs.alone(bucket, (3,) * 20)
    requests = [Request(Arrival(at, bucket, (3,) * 20), alone) for at in (0.0, 5.0, 5.1)]
    for request in requests:
        replica.ask(request, request.arrival.at)
    assert replica.die(5.2) == requests[1:]
    assert (requests[0].is_made, requests[1].outcome, replica.ended) == (True, None, 5.2)
    assert requests[0].latency == pytest.approx(alone)


def test_requests_in_flight_are_counted_as_retried() -> None:
    traffic = ask(A100, "exact", 4.0, 300.0, 3, slo=None)
    ran = run(Fleet(8, failures=Failures(60.0, seen_after_s=0.5, retry_s=0.5, start_s=5.0)), traffic, seed=4)
    again = sum(each.tries - 1 for each in ran.requests)
    given_up = sum(each.is_given_up for each in ran.requests)
    assert ran.deaths > 10
    assert ran.retried >= ran.lost > 10
    assert ran.retried == again + given_up
    assert ran.bounced <= ran.deaths
    late = [each for each in ran.requests if each.is_made and each.tries > 1]
    assert all(each.latency >= each.alone + 0.5 - 1e-9 for each in late)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(sorted(ROUTERS)),
    st.sampled_from(sorted(PATTERNS)),
    st.booleans(),
    st.sampled_from([None, 5.0, 40.0]),
    st.sampled_from([None, 3.0]),
)
def test_no_request_is_lost(
    seed: int, router: str, pattern: str, scales: bool, dies: float | None, slo: float | None
) -> None:
    traffic = ask(A100, "turbo", 12.0, 20.0, seed, pattern=pattern, slo=slo)
    scaling = Scaling(1, 5, 0.15, up_after_s=0.0, down_after_s=5.0, start_s=2.0) if scales else None
    failures = None if dies is None else Failures(dies, start_s=3.0)
    ran = run(Fleet(2, router, scaling, failures, seats=6), traffic, seed)
    made, refused = ([each for each in ran.requests if is_so(each)] for is_so in (_made, _refused))
    assert len(made) + len(refused) == len(ran.requests) == len(traffic.arrivals)
    assert not {id(each) for each in made} & {id(each) for each in refused}
    assert all(each.slowdown >= 1 - 1e-9 for each in made)
    assert all(each.ended >= each.began for each in ran.replicas)
    if slo:  # what the server accepts is made in time
        assert all(each.latency <= slo * each.alone + 1e-6 for each in made)


def _made(request: Request) -> bool:
    return request.is_made


def _refused(request: Request) -> bool:
    return request.is_refused


def test_more_replicas_start_after_a_while_and_go_again() -> None:
    """A rush of 200 s: looked at every 5 s, decided after 10 s, answering 30 s later, drained after 60 s."""
    arrivals = [Arrival(at / 4, (bucket := Bucket("b", 8, 24)), (3,) * 20) for at in range(800)]
    arrivals += [Arrival(200.0 + 5 * at, bucket, (3,) * 20) for at in range(60)]
    scaling = Scaling(1, 6, 1.0, up_after_s=10.0, down_after_s=60.0, start_s=30.0)
    ran = run(Fleet(1, scaling=scaling, seats=1000), Traffic(A100, arrivals, 0.0))
    began = sorted({each.began for each in ran.replicas})
    assert began[:2] == [0.0, 15.0]  # at 5 s there is more to do than it should be
    assert next(look.at for look in ran.looks if look.ready > 1) == 45.0
    assert max(look.ready for look in ran.looks) == 6
    assert ran.looks[-1].ready == 1
    assert sum(each.is_made for each in ran.requests) == len(arrivals)
    paid = sum(min(each.ended, ran.end) - each.began for each in ran.replicas)
    assert figures(ran)["gpu_seconds"] == pytest.approx(paid)
    assert figures(ran)["most_gpus"] == 6


def test_a_burst_that_is_over_starts_none() -> None:
    scaler = Scaler(Scaling(1, 10, 1.0, up_after_s=10.0, down_after_s=20.0))
    assert [scaler.look(work, 2, at) for at, work in ((0.0, 9.0), (5.0, 2.0), (10.0, 9.0), (15.0, 4.0))] == [2] * 4
    assert scaler.look(8.0, 2, 20.0) == 4  # the most modest of the last ten seconds
    assert [scaler.look(0.0, 4, at) for at in (25.0, 35.0)] == [4, 4]
    assert scaler.look(0.0, 4, 45.0) == 1


# What is asked for, and the arithmetic.


def test_rows_are_those_of_the_guidance() -> None:
    rows = {name: rows_of(name) for name in ("exact", "fast", "turbo")}
    assert rows == {"exact": (3,) * 20, "fast": (3, 1) * 6, "turbo": (3, 1) * 2}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_have_the_rate_they_are_given(pattern: str) -> None:
    times = [each.at for each in ask(A100, "turbo", 20.0, 400.0, 5, pattern=pattern).arrivals]
    assert len(times) / times[-1] == pytest.approx(20, rel=0.02)
    assert times == sorted(times)
    counts = [sum(at <= time < at + 4 for time in times) for at in range(0, int(times[-1]) - 4, 4)]
    spread = statistics.variance(counts) / statistics.mean(counts)  # 1 of Poisson's
    assert {"even": spread < 0.1, "poisson": 0.6 < spread < 1.5}.get(pattern, spread > 3)


def test_a_day_is_busiest_at_noon() -> None:
    times = [each.at for each in ask(A100, "turbo", 20.0, 400.0, 5, pattern="diurnal").arrivals]
    noon, night = (sum(low <= at < high for at in times) for low, high in ((150, 250), (0, 100)))
    assert noon > 3 * night


def test_the_arithmetic() -> None:
    work = work_of(ask(A100, "exact", 1.0, 10.0, 0))
    assert work.rows == 60
    vae = (1.4 + 3.1) * (7.5 + 3 * 9.1) / 3
    assert 1000 * work.alone == pytest.approx(20 * (7.5 + 3 * 9.1) + vae)
    assert 1000 * work.least == pytest.approx(60 * (7.5 / 24 + 9.1) + vae)
    calls = 4 + (3 * work.alone - (whole := (4 * vae + 20 * (7.5 + 12 * 9.1)) / 1000)) / (vae + 20 * 27.3) * 1000
    assert whole > 3 * work.alone  # four together are too late
    assert work.timely == pytest.approx(3 * work.alone / calls)
    h100 = work_of(ask(FLEETS["h100-bound"], "exact", 1.0, 10.0, 0))
    assert 1000 * h100.alone == pytest.approx(52, abs=0.5)  # 51.9 TFLOP at 989 TFLOP/s


def test_the_fewest() -> None:
    tried: list[int] = []

    def is_enough(count: int) -> bool:
        tried.append(count)
        return count >= 137

    assert fewest(100, is_enough) == 137
    assert len(tried) <= 10
    assert fewest(0, lambda count: True) == 1


def test_a_need_is_the_fewest_that_are_enough() -> None:
    """At 90 % of one device's work one at a time, half of the requests would be late on one."""
    device = Device(512, {rows: 10.0 * rows for rows in range(1, 25)}, 1.0, 1.0)
    found = need("d", device, "turbo", 0.9 / 0.082, 1)
    assert (found.gpus, found.in_time >= 0.99) == (2, True)
    assert found.bound == pytest.approx(0.9)
    assert need("d", device, "turbo", 1e6, 1).gpus is None


def test_a_trace_in_the_public_form(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text(
        "".join(
            f"Request(request_id={number}, timestamp={number / 2}, height={side}, width={side},"
            " num_inference_steps=50)\n"
            for number, side in enumerate((128, 256, 512, 1024))
        )
    )
    traffic = replay(A100, path, None, 0)
    assert [each.at for each in traffic.arrivals] == [0.0, 0.5, 1.0, 1.5]
    assert [each.bucket.area for each in traffic.arrivals] == pytest.approx([1 / 16, 1 / 4, 1, 4])
    assert {each.rows for each in traffic.arrivals} == {(3,) * 50}
    fast = replay(A100, path, 8.0, 0)
    assert fast.arrivals[-1].at == pytest.approx(0.5)
    assert [kind.size for kind in kinds_of("public")] == [0.25, 0.5, 1, 2, 3]


def test_a_curve_of_tune(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    curve = [{"rows": 3, "p50_ms": 30.0}, {"rows": 6, "p50_ms": 54.0}]
    slow, other = ({"backend": name, "is_exact": name != "bf16", "curve": curve[:1]} for name in ("ort-cpu", "bf16"))
    fast = {"backend": "openvino", "is_exact": True, "curve": curve}
    path.write_text(json.dumps({"size": 64, "measured": [slow, other, fast], "auto": ["openvino", "ort-cpu"]}))
    device = named(str(path))
    assert (device.side, device.steps_ms) == (64, {3: 30.0, 6: 54.0})
    path.write_text('{"measured": []}')
    with pytest.raises(OptionError, match="no curve"):
        named(str(path))
    with pytest.raises(OptionError, match="b200"):
        named("b200")


# The program.


def test_the_same_seed_gives_the_same_figures() -> None:
    def told(seed: int) -> str:
        words = ["run", "--rate=6", "--seconds=60", "--replicas=4", "--pattern=bursty", "--scale-to=8", "--json=-"]
        words += ["--failure-hours=0.01", "--router=random-of-two", f"--seed={seed}"]
        result = CliRunner().invoke(fleet.app, words)
        assert result.exit_code == 0, result.output
        return result.stdout

    first = told(1)
    assert told(1) == first
    assert told(2) != first
    facts = json.loads(first)
    assert facts["made"] + facts["refused"] == facts["requests"] > 0
    assert facts["deaths"] > 0


def test_the_table() -> None:
    result = CliRunner().invoke(fleet.app, ["plan", "--device=h100-bound", "--mix=turbo", "--rate=1"])
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if "h100-bound" in line]
    assert [cell.strip() for cell in line.strip("│ ").split("│")][:9] == [
        *("h100-bound", "turbo", "8", "10.16", "10.16", "10.16", "1", "0.0102", "1")
    ]


def test_what_is_not_known_is_said() -> None:
    for words in (["plan", "--router=best"], ["run", "--mix=slow"], ["run", "--device=x.json"]):
        result = CliRunner().invoke(fleet.app, words)
        assert isinstance(result.exception, OptionError)


def test_pictures_are_small_and_say_what_they_show(tmp_path: Path) -> None:
    from fleets import plots

    results = Path(__file__).parents[2] / "docs" / "results"
    for draw, name, word in ((plots.growth, "fleet", "turbo"), (plots.day, "fleet-days", "paid for")):
        draw(json.loads((results / f"{name}.json").read_text()), path := tmp_path / f"{name}.svg")
        assert path.stat().st_size < 20_000
        words = [each.text for each in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
        assert word in words
