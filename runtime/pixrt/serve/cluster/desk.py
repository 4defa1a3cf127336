"""The desk: which replicas there are, and what those that have ended leave for their clients. One small Ray actor.

Must not import numpy.
"""

import time
from collections.abc import Mapping

import ray

from pixrt.serve.cluster.calls import KeptJob


class Desk:
    """Names of replicas, and jobs of those that have ended, the oldest let go first. See `desk`."""

    def __init__(self, most_bytes: int, seconds: float) -> None:
        """Keep so many bytes of jobs, each so many seconds."""
        self._most, self._seconds = most_bytes, seconds
        self._names: dict[str, float] = {}  # when each was heard of last
        self._jobs: dict[str, tuple[float, KeptJob]] = {}

    def here(self, name: str) -> None:
        """A replica is there; it says so again and again."""
        self._names[name] = time.time()

    def gone(self, name: str) -> None:
        """A replica has ended, and left what it had."""
        self._names.pop(name, None)

    def names(self) -> list[str]:
        """Replicas that were heard of lately."""
        since = time.time() - 60
        self._names = {name: at for name, at in self._names.items() if at > since}
        return sorted(self._names)

    def leave(self, jobs: Mapping[str, KeptJob]) -> None:
        """Keep jobs by their ids, in place of what was left of them before."""
        now = time.time()
        for id, job in jobs.items():
            self._jobs.pop(id, None)
            self._jobs[id] = now, job
        held = 0
        for id, (at, job) in reversed(tuple(self._jobs.items())):
            held += len(job.data) + 4096
            if held > self._most or now - at > self._seconds:
                del self._jobs[id]

    def find(self, id: str, client: str) -> tuple[bool, KeptJob | None]:
        """Whether the replica of a job is known, and the job, if it was left here and is this client's."""
        _, job = self._jobs.get(id, (0.0, None))
        return id.partition("-")[0] in self.names(), job if job is not None and job.client == client else None

    def of(self, client: str) -> list[KeptJob]:
        """A client's jobs that were left, oldest first."""
        return [job for _, job in self._jobs.values() if job.client == client]

    def forget(self, id: str) -> None:
        """Let go of a job."""
        self._jobs.pop(id, None)


def desk(name: str, most_bytes: int, seconds: float) -> "ray.actor.ActorHandle":
    """The desk of that name in the cluster; it outlives replicas and whoever asks first."""
    actor = ray.remote(Desk).options(
        name=name, namespace="pixrt", lifetime="detached", get_if_exists=True, num_cpus=0, max_restarts=-1
    )
    return actor.remote(most_bytes, seconds)
