"""Which replica a request goes to: the one with the least predicted work. Runs in the gate, on Ray Serve's router."""

from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from pixrt.serve.cluster.calls import read_wish


class LeastWork(RequestRouter):  # type: ignore[misc]  # Ray says no types
    """Orders replicas by the seconds of work that they said last, and what was sent to each since.

    A request that names a replica gets that one alone, and one that names LoRAs those first that have them open. Among
    replicas that are equal, one that has been sent less comes first.
    """

    def initialize_state(self, **kwargs: Any) -> None:
        """Ray calls it once."""
        self._sent: dict[ReplicaID, tuple[float, int]] = {}  # what it said last, and requests since

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The candidates, best first, each a rank of its own."""
        text = "" if pending_request is None else pending_request.metadata.multiplexed_model_id
        replica, lora = read_wish(text)
        own = [each for each in candidate_replicas if each.replica_id.unique_id == replica]
        if own:
            return [own]
        ranked = sorted(candidate_replicas, key=lambda each: self._rank(each, lora))
        return [[each] for each in ranked]

    def _rank(self, replica: RunningReplica, lora: str) -> tuple[bool, float, int]:
        said = replica.routing_stats
        at, sent = self._sent.get(replica.replica_id, (0.0, 0))
        if said.get("at", 0.0) != at:
            sent = 0
            self._sent[replica.replica_id] = said.get("at", 0.0), 0
        work = said.get("work_s", 0.0) + sent * said.get("picture_s", 0.0)
        return bool(lora) and lora not in said.get("loras", ()), work, sent

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Ray has sent it there."""
        at, sent = self._sent.get(replica_id, (0.0, 0))
        self._sent[replica_id] = at, sent + 1
