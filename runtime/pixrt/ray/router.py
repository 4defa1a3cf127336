"""Which replica a request goes to: where its picture is predicted to be done first.

Ray Serve has one such router in every process that holds a handle. What replicas say of themselves comes a few times a
second; between two of those, what was sent to each since is counted on top.
"""

import time
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from pixrt.ray import known
from pixrt.ray.asking import Asked
from pixrt.ray.policy import predicted_ms


class LeastWork(RequestRouter):  # type: ignore[misc]  # Ray's types are not read
    """See the module."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Nothing is sent yet; the deployment's replicas can be seen by `known`."""
        self._sent: dict[ReplicaID, list[float]] = {}  # when, in Unix seconds
        known.ROUTERS[self._deployment_id.name] = self

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Replicas, the best one first; each is a rank of its own."""
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        asked = pending_request.args[0] if pending_request.args else None
        if not isinstance(asked, Asked):
            return [candidate_replicas]
        meant = [each for each in candidate_replicas if each.replica_id.unique_id == asked.to]
        if meant:
            return [meant]  # another one would say that it is not there
        left = [each for each in candidate_replicas if each.replica_id.unique_id not in asked.past]
        loras = asked.loras if asked.is_for_pictures else frozenset()
        ordered = sorted(left or candidate_replicas, key=lambda each: self._predicted_ms(each, loras))
        return [[each] for each in ordered]

    def _predicted_ms(self, replica: RunningReplica, loras: frozenset[str]) -> float:
        said = replica.routing_stats or {}
        sent = [at for at in self._sent.get(replica.replica_id, ()) if at > said.get("at", 0.0)]
        self._sent[replica.replica_id] = sent  # an answer is no end: jobs are answered as they are accepted
        return predicted_ms(said, sent, loras)

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """A replica has taken it."""
        asked = pending_request.args[0] if pending_request.args else None
        if isinstance(asked, Asked) and asked.is_for_pictures:
            self._sent.setdefault(replica_id, []).append(time.time())

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """See Ray's."""
        super().update_replicas(replicas)
        for gone in self._sent.keys() - {each.replica_id for each in replicas}:
            del self._sent[gone]
