"""The server on Ray: a cluster of this machine, replicas that are killed, replaced and added."""

import asyncio
import dataclasses
from collections.abc import Iterator

import httpx
import pytest

pytest.importorskip("ray")
from pixrt.errors import PixrtError
from pixrt.ray import serving
from pixrt.ray.clusters import cluster
from pixrt.serve.settings import Settings
from ray_serving import AFTER, BEFORE, job, killing, replicas, result, running, scaling, settings, until, updating

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CLIENTS, SECONDS = 4, 6.0


@pytest.fixture(scope="module")
def served() -> Iterator[Settings]:
    said = serving.with_port(settings(replicas=2))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_SERVE_ENABLE_HA_PROXY", "0")
        serving.prepare(said.options)
        with cluster():
            serving.deploy(said)
            yield said
            serving.drain(said.options)


def test_a_job_is_found_and_cancelled_on_whichever_replica_it_is(served: Settings) -> None:
    async def try_it() -> None:
        async with httpx.AsyncClient(base_url=serving.address_of(served.options), timeout=60) as client:
            ids = [await job(client) for _ in range(5)]
            ids.append(await job(client, steps=1000))
            assert len({id.partition("-")[0] for id in ids}) == 2
            listed = {each["id"] for each in (await client.get("/v1/jobs")).json()["data"]}
            assert set(ids) <= listed
            assert (await client.delete(f"/v1/jobs/{ids[-1]}")).status_code == 200
            assert [(await result(client, id)).status_code for id in ids] == [*[200] * 5, 410]
            assert (await client.get(f"/v1/jobs/{ids[0]}x")).status_code == 404

    asyncio.run(try_it())


def test_a_killed_replica_costs_what_it_had(served: Settings) -> None:
    load = asyncio.run(killing(serving.address_of(served.options), CLIENTS, SECONDS))
    assert load.statuses[200] > 0
    assert set(load.statuses) <= {200, 503}
    assert load.statuses[503] <= CLIENTS
    assert (load.broken, load.unretryable) == (0, 0)
    assert set(load.codes) <= {"worker_lost"}


def test_an_update_fails_nobody(served: Settings) -> None:
    now = dataclasses.replace(served, bundle=AFTER)
    load, kept = asyncio.run(updating(serving.address_of(served.options), now, CLIENTS, SECONDS))
    assert set(load.statuses) == {200}
    assert load.broken == 0
    assert sorted(load.models) == ["pixrt-demo", "pixrt-shapes"]
    assert kept.status_code == 200


def test_a_bundle_that_there_is_not_leaves_everything_as_it_was(served: Settings) -> None:
    with pytest.raises(PixrtError, match="nothing-here"):
        serving.deploy(dataclasses.replace(served, bundle="nothing-here"))
    assert httpx.get(f"{serving.address_of(served.options)}/health/ready").status_code == 200


def test_a_burst_brings_replicas_and_its_end_takes_them(served: Settings) -> None:
    more = dataclasses.replace(served.ray, replicas=1, max_replicas=3, scale_seconds=2.0)
    serving.deploy(dataclasses.replace(served, bundle=BEFORE, ray=more))
    asyncio.run(until(lambda: running() == 1 and len(replicas()) == 1))
    _, _, statuses = asyncio.run(scaling(serving.address_of(served.options), 3, 60))
    assert set(statuses) == {200}
