"""The server on Ray Serve under load: what it costs, and what is lost when replicas end. Linux; extras ray and test.

    python benchmarks/ray_serving.py [alone] [killed] [renewed] [burst] [--seconds 20] [--clients 6]

Engines are stand-ins that take 20 ms for a step; every replica is a real one, with a worker process. Printed, each in
a cluster of its own:

- alone: milliseconds of an edit of 5 steps, one at a time, by one server and by one replica on Ray, taking turns;
- killed: two replicas, one of which is killed in the middle: answers by status;
- renewed: two replicas that are renewed one after another in the middle: answers by status, and of jobs that were
  accepted meanwhile how many pictures were fetched;
- burst: replicas over time, when many clients come at once and leave again.

It ends with 1 if an accepted request was lost that was not in flight where the replica was killed.
"""

import collections
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from prometheus_client.parser import text_string_to_metric_families

from figures.process import Served, stand_in

STEP_MS, STEPS, START_SECONDS = 20.0, 5, 180
PICTURE = Path(__file__).parent.parent / "examples" / "scene.png"
PARTS = ("alone", "killed", "renewed", "burst")


class Cluster:
    """`pixrt serve --ray` with a settings file of its own, from start to end."""

    def __init__(self, folder: Path, port: int, **settings: object) -> None:
        self.file, self.address = folder / "serve.toml", f"http://127.0.0.1:{port}"
        self._settings: dict[str, object] = {
            "ray": True, "port": port, "replica_cpus": 0.25, "max_batch": 4, "queue": 32, **settings,
        }  # fmt: skip
        self.say()
        self._log = (folder / "serve.log").open("w+")
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        command = [sys.executable, "-m", "pixrt", "serve", "--bundle", "shapes", "--config", str(self.file)]
        self._process = subprocess.Popen(
            [*command, *stand_in(STEP_MS)], stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:  # Ray writes to it, too
            if line.strip() == self.address:
                break
        else:
            raise SystemExit(f"it did not start:\n{Path(self._log.name).read_text()[-4000:]}")
        self._rest = threading.Thread(target=self._process.stdout.read)
        self._rest.start()

    def say(self, **settings: object) -> None:
        """Write the settings file, with these changed."""
        self._settings |= settings
        spelt = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in self._settings.items()
        }
        self.file.write_text("".join(f"{name} = {value}\n" for name, value in spelt.items()))

    def renew(self) -> None:
        """Have it read its settings again."""
        self._process.send_signal(signal.SIGHUP)

    def replicas(self) -> set[str]:
        """Names of those that answer."""
        text = httpx.get(f"{self.address}/metrics", timeout=60).text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        return {sample.labels["replica"] for sample in families["pixrt_pictures"].samples} - {"gate"}

    def wait(self, is_so: Callable[[], bool]) -> None:
        """Until that is so. Raises TimeoutError after some minutes."""
        end = time.monotonic() + START_SECONDS
        while not is_so():
            if time.monotonic() > end:
                raise TimeoutError(Path(self._log.name).read_text()[-4000:])
            time.sleep(0.5)

    def kill_replica(self) -> None:
        """End the process of one at once."""
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        os.kill(next(pid for pid in pids if self._is_replica(pid)), signal.SIGKILL)

    def _is_replica(self, pid: int) -> bool:
        """Whether a process is a replica of this cluster."""
        try:
            if not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ServeReplica:pixrt:Replica"):
                return False
            while pid > 1 and pid != self._process.pid:
                pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except FileNotFoundError:
            return False
        return pid == self._process.pid

    def close(self) -> int:
        """End it by SIGTERM; its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(120)
        finally:
            self._process.kill()
            self._rest.join()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._log.close()


@contextmanager
def cluster(port: int, **settings: object) -> Iterator[Cluster]:
    """One that is up, and is taken down."""
    with tempfile.TemporaryDirectory() as folder:
        up = Cluster(Path(folder), port, **settings)
        try:
            yield up
        finally:
            up.close()


def edit(address: str) -> httpx.Response:
    """One edit, waited for."""
    fields = {"prompt": "make the background blue", "num_inference_steps": str(STEPS), "seed": "1"}
    with PICTURE.open("rb") as file:
        return httpx.post(f"{address}/v1/images/edits", data=fields, files={"image": file}, timeout=120)


class Load:
    """Clients that ask again as soon as they have an answer, until they are stopped."""

    def __init__(self, ask: Callable[[], str], clients: int) -> None:
        self._ask, self._stop = ask, threading.Event()
        self.answers: collections.Counter[str] = collections.Counter()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                said = self._ask()
            except httpx.HTTPError as error:
                said = type(error).__name__
            self.answers[said] += 1

    def stop(self) -> collections.Counter[str]:
        """What was answered, and how often, once all have their last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return self.answers


def asking(address: str) -> Callable[[], str]:
    """An edit, and its status; of a 503 whether the client is told to try again."""

    def ask() -> str:
        answer = edit(address)
        if answer.status_code == 503 and answer.headers.get("x-should-retry") == "true":
            return "503, try again"
        return str(answer.status_code)

    return ask


def job(address: str) -> str:
    """A job that is accepted, and fetched when it is done; its status."""
    fields = {"task": "generate", "prompt": "a red circle", "steps": 25}
    accepted = httpx.post(f"{address}/v1/jobs", json=fields, timeout=120)
    if accepted.status_code != 202:
        return f"not accepted: {accepted.status_code}"
    link = accepted.json()["links"]
    for _ in range(600):
        told = httpx.get(address + link["self"], timeout=120)
        if told.status_code != 200:
            return f"a job: {told.status_code}"
        if told.json()["state"] == "done":
            return f"its picture: {httpx.get(address + link['result'], timeout=120).status_code}"
        time.sleep(0.1)
    return "a job that does not end"


def compare_alone(port: int, seconds: float) -> bool:
    """One server and one replica, taking turns."""
    times: dict[str, list[float]] = {"one server": [], "one replica on Ray": []}
    with cluster(port) as up, Served("--max-batch", "4", *stand_in(STEP_MS)) as single:
        addresses = {"one server": single.address, "one replica on Ray": up.address}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for name, address in addresses.items():
                began = time.perf_counter()
                assert edit(address).status_code == 200
                times[name].append(1000 * (time.perf_counter() - began))
    for name, own in times.items():
        print(
            f"alone: {name}: p50 {statistics.median(own):.0f} ms of {len(own)} edits of {STEPS * STEP_MS:g} ms at least"
        )
    return True


def kill_one(port: int, seconds: float, clients: int) -> bool:
    """Two replicas, one of which is killed in the middle."""
    with cluster(port, replicas=2) as up:
        load = Load(asking(up.address), clients)
        time.sleep(seconds / 2)
        up.kill_replica()
        time.sleep(seconds / 2)
        answers = load.stop()
        print(f"killed: answers {dict(answers)}, of {clients} clients; replicas at the end: {len(up.replicas())}")
    return answers.keys() <= {"200", "503, try again"} and answers["503, try again"] <= clients


def renew_all(port: int, seconds: float, clients: int) -> bool:
    """Two replicas that are renewed one after another under load."""
    with cluster(port, replicas=2) as up:
        before = up.replicas()
        edits, jobs = Load(asking(up.address), clients), Load(lambda: job(up.address), 2)
        time.sleep(seconds / 4)
        up.say(queue=33)
        up.renew()
        up.wait(lambda: not up.replicas() & before)
        time.sleep(seconds / 4)
        answers, fetched, after = edits.stop(), jobs.stop(), up.replicas()
        print(f"renewed: answers {dict(answers)}, jobs {dict(fetched)}; replicas of before: {len(after & before)}")
    return answers.keys() == {"200"} and fetched.keys() == {"its picture: 200"} and not after & before


def burst(port: int, seconds: float, clients: int) -> bool:
    """One replica, then many clients, then none."""
    with cluster(port, max_replicas=3, share_ms=300.0, idle_seconds=seconds / 4) as up:
        began, counts = time.monotonic(), [len(up.replicas())]
        load = Load(asking(up.address), 3 * clients)
        up.wait(lambda: len(up.replicas()) == 3)
        counts.append(len(up.replicas()))
        answers = load.stop()
        grown = time.monotonic() - began
        up.wait(lambda: len(up.replicas()) == 1)
        counts.append(len(up.replicas()))
        shrunk = time.monotonic() - began
        print(f"burst: replicas {counts}, after {grown:.0f} and {shrunk:.0f} s; answers {dict(answers)}")
    return counts == [1, 3, 1] and answers.keys() <= {"200", "429"}


def main(
    parts: Annotated[list[str] | None, typer.Argument()] = None,
    seconds: float = 20.0,
    clients: int = 6,
    port: int = 8790,
) -> None:
    """See the module."""
    does = {
        "alone": lambda: compare_alone(port, seconds),
        "killed": lambda: kill_one(port, seconds, clients),
        "renewed": lambda: renew_all(port, seconds, clients),
        "burst": lambda: burst(port, seconds, clients),
    }
    held = [does[part]() for part in parts or PARTS]  # all of them, whatever the first says
    if not all(held):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
