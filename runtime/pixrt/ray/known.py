"""Names, and the routers of this process. A module of its own: Ray pickles routers with copies of their module."""

from collections.abc import Mapping
from typing import Any

APPLICATION, DEPLOYMENT = "pixrt", "replica"
ROUTERS: dict[str, Any] = {}


def replicas_of(deployment: str) -> Mapping[str, Mapping[str, Any]]:
    """What a deployment's running replicas said of themselves last, by their names, as this process knows it."""
    router = ROUTERS.get(deployment)
    if router is None:
        return {}
    return {each.unique_id: replica.routing_stats or {} for each, replica in tuple(router.curr_replicas.items())}
