"""Bring the server up on Ray Serve, renew it, and take it down. Must not import numpy or Pillow."""

import hashlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pixrt.bundles.store import open_bundle
from pixrt.errors import PixrtError
from pixrt.serve import logs
from pixrt.serve.cluster.calls import APP, GATE, REPLICA
from pixrt.serve.logs import tell
from pixrt.serve.server import check_files
from pixrt.serve.settings import Settings

Say = Callable[[str], None]
_SPARE = 64  # requests of a replica that take no seat: jobs that are looked at, streams of events, health
_STATS_SECONDS = 0.5
_STORE_BYTES = 256 << 20
# Ray kills a proxy that is not ready in 5 seconds, and tries again: on a busy machine for ever. And it passes over a
# replica that does not say in 0.1 s how many requests it has, waits longer and longer, and asks again.
_PATIENT = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "30",
    "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "2",
    "RAY_SERVE_MAX_QUEUE_LENGTH_RESPONSE_DEADLINE_S": "10",
}
_QUIET = {"log_level": "WARNING", "enable_access_log": False}  # the guard and the service have a log of their own


def serve_on_ray(read: Callable[[], Settings], say: Say) -> None:
    """Serve on the cluster that RAY_ADDRESS names, or on a local one, and say the address once it answers.

    A local cluster ends with this process, after SIGTERM or Ctrl-C and what is accepted; SIGHUP reads the settings
    again and renews the replicas one after another. On another cluster the application stays: to start it again renews
    it. Raises PixrtError.
    """
    settings = read()
    check_files(settings.options)
    _prepare(settings)
    import ray
    from ray import serve
    from ray.exceptions import RayError

    logs.configure(settings.options.log_format, logging.INFO)
    is_local = "RAY_ADDRESS" not in os.environ
    stop, again = threading.Event(), threading.Event()
    with ExitStack() as stack:
        try:
            ray.init(namespace="pixrt", log_to_driver=is_local, **_local() if is_local else {})
            stack.callback(ray.shutdown)
            address = _start(settings)
            _deploy(settings)
        except (ConnectionError, RayError) as error:
            raise PixrtError(f"Ray has failed: {error!s:.300}", remedy="Its log says why") from None
        say(address)
        if not is_local:
            return
        stack.callback(serve.shutdown)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: again.set())
        while not stop.wait(0.2):
            if again.is_set():
                again.clear()
                _renew(read)
        tell("draining")


def _prepare(settings: Settings) -> None:
    """Ray reads these when it is imported; what the user has said stays.

    HAProxy as the ingress takes less time than Ray's own, and listens on every address: so only where the server is
    meant to be reached by others.
    """
    wished = {"RAY_USAGE_STATS_ENABLED": "0", **_PATIENT}
    if not settings.options.is_loopback:
        wished |= {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    for name, value in wished.items():
        os.environ.setdefault(name, value)


def _local() -> dict[str, Any]:
    return {"address": "local", "include_dashboard": False, "object_store_memory": _STORE_BYTES}


def _start(settings: Settings) -> str:
    """Ray Serve's proxies; the address on which they listen."""
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation

    options = settings.options
    if options.port == 0:
        raise PixrtError("port is 0, and Ray Serve takes none that is free", remedy="Choose a --port")
    where = ProxyLocation.HeadOnly if options.is_loopback else ProxyLocation.EveryNode
    http = HTTPOptions(host=options.host, port=options.port)
    serve.start(proxy_location=where, http_options=http, logging_config=_QUIET)
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"http://{host}:{options.port}"


def _deploy(settings: Settings) -> None:
    """Bring up what the settings say, or renew what is there, replica by replica. Raises PixrtError."""
    from ray import serve

    try:
        serve.run(application(settings), name=APP, route_prefix="/", logging_config=_QUIET)
    except RuntimeError as error:
        raise PixrtError(
            f"the application did not become ready: {error!s:.300}", remedy="The replicas' log says why"
        ) from None


def _renew(read: Callable[[], Settings]) -> None:
    try:
        _deploy(read())
        tell("renewed")
    except PixrtError as error:
        tell(f"the replicas stay as they were: {error}", level=logging.ERROR)


def application(settings: Settings) -> Any:
    """The gate before the replicas, as an application of Ray Serve."""
    from ray import serve

    from pixrt.serve.cluster.gate import Gate
    from pixrt.serve.cluster.replica import Replica
    from pixrt.serve.cluster.routing import LeastWork
    from pixrt.serve.cluster.scaling import ByWork

    options = settings.options
    seats = settings.session.max_batch + options.queue
    how: dict[str, Any] = {"num_replicas": options.replicas}
    if options.max_replicas is not None:
        how = {
            "autoscaling_config": {
                "min_replicas": options.replicas,
                "max_replicas": options.max_replicas,
                "policy": {"policy_function": ByWork, "policy_kwargs": {"share_ms": options.share_ms}},
                "metrics_interval_s": _STATS_SECONDS,
                "look_back_period_s": 4 * _STATS_SECONDS,
                "upscale_delay_s": 2 * _STATS_SECONDS,
                "downscale_delay_s": options.idle_seconds,
            }
        }
    replica = serve.deployment(
        Replica,
        name=REPLICA,
        max_ongoing_requests=seats + _SPARE,
        ray_actor_options={"num_cpus": options.replica_cpus, "num_gpus": options.replica_gpus},
        graceful_shutdown_timeout_s=options.drain_seconds + 10,
        graceful_shutdown_wait_loop_s=0.1,
        health_check_period_s=5,
        request_router_config={
            "request_router_class": LeastWork,
            "request_routing_stats_period_s": _STATS_SECONDS,
        },
        **how,
    ).bind(settings, _version(settings))
    gate = serve.deployment(
        serve.ingress()(Gate),
        name=GATE,
        max_ongoing_requests=options.max_connections,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=options.drain_seconds + 10,
    )
    return gate.bind(settings, replica)


def _version(settings: Settings) -> str:
    """What is told from another one: the bundle by its content, and every setting."""
    manifest = open_bundle(settings.bundle, verify=False).folder / "manifest.json"
    said = [*(f"{name}={value}" for name, value, _ in settings.describe()), Path(manifest).read_text(encoding="utf-8")]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]
