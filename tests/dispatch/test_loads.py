"""The load benchmark's other policies and its ideals are what they say."""

from dataclasses import replace

import pytest

from loads.ideal import most_work, with_hindsight
from loads.policies import POLICIES, join_all, one_at_a_time, ours, static_batches
from loads.traffic import MIXES, Traffic, first, poisson, varying
from pixrt.dispatch.simulation import Arrival, Simulated
from pixrt.serve.devices import DEVICES

A100 = DEVICES["a100"]


def traffic(*steps: int, apart: float = 0.01, patience: float | None = None) -> Traffic:
    """Pictures of 3 rows, so many seconds apart."""
    made = poisson(A100, "edits", 0.9, len(steps), 0)
    bucket, costs = made.arrivals[0].bucket, made.costs()
    arrivals = []
    for number, count in enumerate(steps):
        at, rows = apart * number, (3,) * count
        deadline = None if patience is None else at + patience * costs.alone(bucket, rows)
        arrivals.append(Arrival(at, bucket, rows, deadline))
    return replace(made, arrivals=arrivals)


def work(simulated: Simulated) -> float:
    return sum(each.alone for each in simulated.outcomes if each.in_time)


def test_one_at_a_time() -> None:
    alone = 20 * 0.0348 + 4.5 * 0.0116
    ends = [each.end for each in one_at_a_time(traffic(20, 20, 20)).outcomes]
    assert ends == pytest.approx([alone, 2 * alone, 3 * alone])


def test_static_batches_are_of_equal_steps_and_end_together() -> None:
    """The first goes alone; then the second with its equals, and the shorter one after them."""
    ends = [each.end for each in static_batches(traffic(20, 20, 4, 20)).outcomes]
    vae = 4.5 * 0.0116
    first_end = 20 * 0.0348 + vae
    pair = first_end + 2 * vae + 20 * (0.0075 + 6 * 0.0091)
    assert ends == pytest.approx([first_end, pair, pair + vae + 4 * 0.0348, pair])


def test_all_join_in_the_order_in_which_they_came() -> None:
    """Eight of 3 rows share a step; the ninth waits for a slot."""
    outcomes = join_all(traffic(*[20] * 9, apart=0.0)).outcomes
    encode, decode = 1.4 * 0.0116, 3.1 * 0.0116
    first_end = 8 * encode + 20 * (0.0075 + 24 * 0.0091) + decode
    assert outcomes[0].end == pytest.approx(first_end)
    assert outcomes[7].end == pytest.approx(first_end + 7 * decode)
    assert outcomes[8].start >= first_end


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("name", DEVICES)
def test_the_load_is_what_it_is_called(name: str, mix: str) -> None:
    made = poisson(DEVICES[name], mix, 0.6, 4000, 1)
    costs = made.costs()
    offered = sum(costs.alone(arrival.bucket, arrival.rows) for arrival in made.arrivals)
    assert offered / made.arrivals[-1].at == pytest.approx(0.6, rel=0.08)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_makes_everything(policy: str) -> None:
    outcomes = POLICIES[policy](poisson(A100, "public", 0.9, 60, 2)).outcomes
    assert all(each.slowdown >= 1 - 1e-9 for each in outcomes)


@pytest.mark.parametrize(("name", "mix"), [(name, mix) for name in DEVICES for mix in MIXES])
def test_nothing_exceeds_the_bound(name: str, mix: str) -> None:
    made = poisson(DEVICES[name], mix, 1.2, 25, 3, patience=3.0)
    bound = most_work(made) * (1 + 1e-6)
    assert 0 < work(ours(made, margin=0.0)) <= bound
    assert 0 < with_hindsight(made) <= bound


def test_the_bound_is_all_where_all_can_be_done() -> None:
    made = traffic(20, 20, 4, apart=5.0, patience=2.0)
    assert most_work(made) == pytest.approx(work(ours(made, margin=0.0)))


def test_the_bound_of_two_that_do_not_fit_is_what_the_time_allows() -> None:
    """Both come at once and want to be alone; calls of both rows take 62.1 ms, of one 34.8; the VAE is not shared."""
    made = traffic(20, 20, apart=0.0, patience=1.001)
    alone, vae = 20 * 0.0348 + 4.5 * 0.0116, 4.5 * 0.0116
    whole = 20 * 0.0621 + 2 * vae
    assert alone < most_work(made) <= 2 * alone * alone / whole * 1.002
    assert with_hindsight(made) == pytest.approx(alone)


def test_a_device_that_varies_does_so_around_what_it_takes() -> None:
    made = poisson(A100, "edits", 0.5, 200, 1)
    exact, varied = ours(made), ours(made, takes=varying(made, 0.1))
    assert varied.busy == pytest.approx(exact.busy, rel=0.03)
    assert varied.busy != exact.busy


def test_the_first_seconds() -> None:
    made = poisson(A100, "edits", 0.9, 100, 1)
    short = first(made, 20.0)
    assert 0 < len(short.arrivals) < 100
    assert all(arrival.at <= 20.0 for arrival in short.arrivals)
