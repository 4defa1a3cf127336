"""A real `pixrt serve` in processes of its own, seen from outside: its address, its metrics, its memory. Linux."""

import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

Metrics = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]
START_SECONDS, END_SECONDS = 120, 60


def stand_in(step_ms: float, **milliseconds: float) -> list[str]:
    """Flags of an engine that computes nothing, and takes so long for a step; see `pixrt.backends.null`."""
    takes = {"step_ms": step_ms, **milliseconds}
    return ["--backend", "null", *(f"--provider-option={name}={value:g}" for name, value in takes.items())]


class Served:
    """A server of the model `shapes` with these flags, from start to end. `seconds` is how long until it was ready."""

    def __init__(self, *flags: str) -> None:
        self._log = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115  # closed with the server
        began = time.monotonic()
        command = [sys.executable, "-m", "pixrt", "serve", "--bundle", "shapes", "--port", "0", *flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            self._process.wait()
            raise SystemExit(f"the server did not start:\n{self.log[-4000:]}")
        self.seconds = time.monotonic() - began
        self.port = int(self.address.rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it has written to its log."""
        return Path(self._log.name).read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The front's process."""
        return self._process.pid

    @property
    def worker(self) -> int | None:
        """The worker's process; None while there is none."""
        children = [
            int(child)
            for path in Path(f"/proc/{self.pid}/task").glob("*/children")
            for child in path.read_text().split()
        ]
        return children[-1] if children else None

    def send_signal(self, number: signal.Signals) -> None:
        """To the front."""
        self._process.send_signal(number)

    def ended(self, seconds: float = END_SECONDS) -> int:
        """Wait for its end; its exit status."""
        return self._process.wait(seconds)

    def is_ready(self) -> bool:
        """Whether it takes pictures now."""
        try:
            with urllib.request.urlopen(f"{self.address}/health/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ready_in(self, seconds: float, after: float) -> float:
        """Wait until it is ready: seconds since `after`, on the monotonic clock. Infinite if it takes longer."""
        while time.monotonic() - after < seconds:
            if self.is_ready():
                return time.monotonic() - after
            time.sleep(0.01)
        return float("inf")

    def metrics(self) -> Metrics:
        """Its metrics: values by name and labels."""
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        families = text_string_to_metric_families(text)
        return {
            (each.name, tuple(sorted(each.labels.items()))): each.value
            for family in families
            for each in family.samples
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


def total(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels."""
    wanted = set(labels.items())
    return sum(value for (each, has), value in metrics.items() if each == name and wanted <= set(has))


def outcomes(metrics: Metrics) -> dict[int, int]:
    """Requests by the status of their answer, all but those of operations (this script's own readings)."""
    found: dict[int, int] = {}
    for (name, labels), value in metrics.items():
        has = dict(labels)
        if name == "pixrt_requests_total" and has["interface"] != "operations":
            found[int(has["status"])] = found.get(int(has["status"]), 0) + int(value)
    return found


def resident_mib(pid: int, *, most: bool = False) -> float:
    """A process's memory that is resident; `most` since the last `forget_most`."""
    name = "VmHWM:" if most else "VmRSS:"
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def forget_most(pid: int) -> None:
    """The most memory is what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def descriptors(pid: int) -> int:
    """Files that a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """A process's threads."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
