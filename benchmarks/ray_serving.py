"""What the server promises on Ray, shown on a cluster of this machine with engines that compute nothing.

    python benchmarks/ray_serving.py [--seconds 20] [--clients 8] [--haproxy]

One cluster, with two replicas at first, under clients that ask again as soon as they are answered:

1. latency of one client and of all of them, beside a single server in the same run;
2. one replica is killed: every answer is a picture, or a 503 that says to try again, at most one for each client;
3. another bundle is rolled out: every answer is a picture, and results that were kept can still be fetched;
4. a burst of jobs has 1 replica become 3, and 1 again, and every job is done.

With RAY_ADDRESS that cluster is used. Ends with 1 if anything is not as it should be.
"""

import asyncio
import dataclasses
import io
import os
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
import typer
from PIL import Image

from figures.process import Served, stand_in
from pixrt.ray import serving
from pixrt.ray.clusters import cluster
from pixrt.serve.settings import Settings, read_settings

STEP_MS, STEPS, SIDE = 20.0, 5, 64
PATIENCE_SECONDS = 300.0
BEFORE, AFTER = "demo", "shapes"


@dataclass
class Load:
    """What clients were answered: statuses, codes of problems, seconds, and models of pictures."""

    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    models: Counter[str] = field(default_factory=Counter)
    broken: int = 0  # connections that ended without an answer
    unretryable: int = 0  # problems that do not say when to try again

    @property
    def p50_ms(self) -> float:
        return 1000 * statistics.median(self.seconds)

    def heard(self, answer: httpx.Response, seconds: float) -> None:
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200:
            self.seconds.append(seconds)
            self.models[answer.json()["data"][0]["model"]] += 1
        else:
            self.codes[answer.json()["error"]["code"]] += 1
            self.unretryable += answer.headers.get("x-should-retry") != "true" or "retry-after" not in answer.headers

    def __str__(self) -> str:
        said = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return f"{said}; {self.broken} connections broken; p50 {self.p50_ms:.0f} ms"


def picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(file, "PNG")
    return file.getvalue()


PICTURE = picture()


def settings(*, port: int = 0, bundle: str = BEFORE, insecure: bool = False, **more: Any) -> Settings:
    """A server of engines that compute nothing."""
    takes = {"step_ms": f"{STEP_MS:g}", "encode_ms": "5", "decode_ms": "5"}
    given = {"bundle": bundle, "port": port, "backend": "null", "provider_options": takes, "replica_cpus": 0.1}
    return read_settings({**given, "drain_seconds": 30.0, "insecure": insecure, **more})


async def edit(client: httpx.AsyncClient, load: Load) -> None:
    began = time.monotonic()
    form = {"prompt": "make it red", "num_inference_steps": str(STEPS)}
    try:
        answer = await client.post("/v1/images/edits", data=form, files={"image": ("a.png", PICTURE, "image/png")})
    except httpx.HTTPError:
        load.broken += 1
        return
    load.heard(answer, time.monotonic() - began)


async def job(client: httpx.AsyncClient, steps: int = STEPS) -> str:
    form = {"task": "edit", "prompt": "make it red", "steps": str(steps)}
    answer = await client.post("/v1/jobs", data=form, files={"image": ("a.png", PICTURE, "image/png")})
    answer.raise_for_status()
    return str(answer.json()["id"])


async def under_load(address: str, clients: int, during: Callable[[], Awaitable[None]]) -> Load:
    """So many clients ask, one request after the other, until `during` is over."""
    load, is_over = Load(), asyncio.Event()

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_SECONDS) as client:
            while not is_over.is_set():
                await edit(client, load)

    asking = [asyncio.create_task(ask()) for _ in range(clients)]
    try:
        await during()
    finally:
        is_over.set()
        await asyncio.gather(*asking)
    return load


async def result(client: httpx.AsyncClient, id: str) -> httpx.Response:
    """The picture of a job, once it is done."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = await client.get(f"/v1/jobs/{id}/result")
        if answer.status_code != 409 or time.monotonic() > end:
            return answer
        await asyncio.sleep(0.2)


def replicas() -> list[str]:
    """Names of the replicas' actors."""
    import ray.util

    return [
        each["name"]
        for each in ray.util.list_named_actors(all_namespaces=True)
        if each["name"].startswith("SERVE_REPLICA::pixrt#replica#")
    ]


def kill(name: str) -> None:
    """As a machine that goes away: nothing is finished."""
    import ray

    ray.kill(ray.get_actor(name, namespace="serve"))


def running() -> int:
    """Replicas that can be asked."""
    from ray import serve as ray_serve

    states = ray_serve.status().applications["pixrt"].deployments["replica"].replica_states
    return sum(count for state, count in states.items() if str(getattr(state, "value", state)) == "RUNNING")


async def until(is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> float:
    """Seconds until it was so."""
    began = time.monotonic()
    while not await asyncio.to_thread(is_so):
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds:g} s")
        await asyncio.sleep(0.2)
    return time.monotonic() - began


async def killing(address: str, clients: int, seconds: float) -> Load:
    """One replica of several is killed amid the load."""

    async def during() -> None:
        await asyncio.sleep(seconds / 3)
        before = replicas()
        await asyncio.to_thread(kill, before[0])
        await asyncio.sleep(seconds / 3)
        await until(lambda: running() == len(before))
        await asyncio.sleep(seconds / 3)

    return await under_load(address, clients, during)


async def updating(address: str, now: Settings, clients: int, seconds: float) -> tuple[Load, httpx.Response]:
    """Other settings are rolled out amid the load; and the picture of a job that an old replica had made."""
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_SECONDS) as client:
        id = await job(client)

        async def during() -> None:
            await asyncio.sleep(seconds / 3)
            old = set(replicas())
            await asyncio.to_thread(serving.deploy, now)
            await until(lambda: not old & set(replicas()))
            await asyncio.sleep(seconds / 3)

        load = await under_load(address, clients, during)
        return load, await result(client, id)


async def scaling(address: str, most: int, count: int) -> tuple[float, float, Counter[int]]:
    """Seconds until a burst of jobs had so many replicas run, and until one did again; the jobs' statuses."""
    async with httpx.AsyncClient(base_url=address, timeout=PATIENCE_SECONDS) as client:
        # Longer than a replica takes to start.
        ids = await asyncio.gather(*(job(client, 60 * STEPS) for _ in range(count)))
        up = await until(lambda: running() >= most)
        answers = await asyncio.gather(*(result(client, id) for id in ids))
        down = await until(lambda: running() == 1 and len(replicas()) == 1)
        kept = [await result(client, id) for id in ids]
    return up, down, Counter(answer.status_code for answer in (*answers, *kept))


def beside(clients: int, seconds: float, address: str) -> tuple[Load, Load, Load, Load]:
    """One client and all of them, of a single server and of the cluster."""

    async def measure(where: str, count: int) -> Load:
        return await under_load(where, count, lambda: asyncio.sleep(seconds / 4))

    with Served(*stand_in(STEP_MS, encode_ms=5, decode_ms=5)) as single:
        one = asyncio.run(measure(single.address, 1)), asyncio.run(measure(single.address, clients))
    return *one, asyncio.run(measure(address, 1)), asyncio.run(measure(address, clients))


def main(
    seconds: Annotated[float, typer.Option(help="Of load in each part.")] = 20.0,
    clients: Annotated[int, typer.Option(help="That ask at once.")] = 8,
    haproxy: Annotated[bool, typer.Option("--haproxy", help="With HAProxy, on every address of this machine.")] = False,
) -> None:
    first = serving.with_port(settings(replicas=2, insecure=haproxy))
    if not haproxy:
        os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "0"
    for note in serving.prepare(first.options):
        print(note)
    port, address = first.options.port, serving.address_of(first.options)
    wrong: list[str] = []

    def check(is_so: bool, words: str) -> None:
        print(f"  {'yes' if is_so else 'NO '}  {words}")
        if not is_so:
            wrong.append(words)

    with cluster():
        began = time.monotonic()
        serving.deploy(first)
        print(f"started in {time.monotonic() - began:.1f} s")
        names = ("a single server, 1 client", f"a single server, {clients}", "2 replicas, 1", f"2 replicas, {clients}")
        for name, load in zip(names, beside(clients, seconds, address), strict=True):
            print(f"{name}: {load}")

        killed = asyncio.run(killing(address, clients, seconds))
        print(f"one of two replicas killed: {killed}")
        check(set(killed.statuses) <= {200, 503} and not killed.broken, "pictures and 503s, nothing else")
        check(killed.statuses[503] <= clients and not killed.unretryable, "one 503 a client at most, to be tried again")

        other = settings(port=port, bundle=AFTER, insecure=haproxy, replicas=2)
        updated, kept = asyncio.run(updating(address, other, clients, seconds))
        print(f"another bundle rolled out: {updated}")
        check(set(updated.statuses) == {200} and not updated.broken, "no request failed")
        check(len(updated.models) == 2, f"both bundles answered: {dict(updated.models)}")
        check(kept.status_code == 200, "a result of before can be fetched")

        more = dataclasses.replace(other.ray, replicas=1, max_replicas=3, scale_seconds=2.0)
        serving.deploy(dataclasses.replace(other, ray=more))
        asyncio.run(until(lambda: len(replicas()) == 1))
        up, down, statuses = asyncio.run(scaling(address, 3, 60))
        print(f"a burst of 60 jobs: 3 replicas after {up:.1f} s, 1 again {down:.1f} s after the last picture")
        check(set(statuses) == {200}, "every job is done, and can be fetched before and after")
        serving.drain(first.options)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
