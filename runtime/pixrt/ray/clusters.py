"""The cluster: the one that RAY_ADDRESS names, or one of this machine that ends with this process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pixrt.errors import PixrtError

_LOCAL_STORE_BYTES = 128 << 20  # what goes through it: pictures on their way
ADDRESS = "RAY_ADDRESS"


def is_local() -> bool:
    """Whether no cluster is named."""
    return not os.environ.get(ADDRESS)


@contextmanager
def cluster() -> Iterator[None]:
    """Connect; a cluster of this machine is started, and ended in the end. Raises PixrtError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray says at every start that it will change
    import ray

    own: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": _LOCAL_STORE_BYTES}
    try:
        ray.init(**(own if is_local() else {}), log_to_driver=False, logging_level="WARNING")
    except Exception as error:  # Ray has no class for it
        where = os.environ.get(ADDRESS) or "this machine"
        raise PixrtError(
            f"Ray does not start on {where}: {error}", remedy="Check its address, memory and load"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()
