"""What the gate and the replicas say to each other, and where a request wants to go. Must not import Ray or numpy."""

import re
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Message, Scope

from pixrt.serve.interfaces.jobs import PATH as JOBS
from pixrt.serve.problems import Problem

APP, GATE, REPLICA, DESK = "pixrt", "Gate", "Replica", "pixrt-desk"
LORA_HEADER = b"serve_multiplexed_model_id"  # Ray Serve's own
_JOB = re.compile(rf"{JOBS}/([^/-]+)-[^/]+(/events|/result)?")
_KEPT = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers", "client", "server")


@dataclass(frozen=True, slots=True)
class Call:
    """A request that the gate has let in, with all of its body.

    Attributes:
        scope: of ASGI; what can be sent of it.
        replica: the name of the one that must answer; "" for any.
    """

    scope: dict[str, Any]
    body: bytes = field(default=b"", repr=False)
    replica: str = ""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A replica's answer to a call that is for another one."""


@dataclass(frozen=True, slots=True)
class KeptJob:
    """A job of a replica that ends: whose it is, as the replica saw it last, and its picture, or why there is none."""

    client: str
    described: dict[str, Any]
    media_type: str = ""
    data: bytes = field(default=b"", repr=False)
    problem: Problem | None = None


Said = list[Message] | Elsewhere


def call_of(scope: Scope, body: bytes, replica: str) -> Call:
    """A request as it is sent on. The client that the guard found out goes with it."""
    state = scope.get("state", {})
    said = {"client": state.get("client", "addr:unknown"), "request_id": state.get("request_id", ""), "notes": {}}
    kept = {name: scope[name] for name in _KEPT if name in scope}
    return Call({**kept, "asgi": {"version": "3.0"}, "root_path": "", "state": said}, body, replica)


def owner_of(path: str) -> str:
    """The replica that a job's path names; "" for every other path."""
    found = _JOB.fullmatch(path)
    return found[1] if found else ""


def lora_of(scope: Scope) -> str:
    """The LoRAs that a client says it will name, so that a replica answers that has them open; "" for none."""
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == LORA_HEADER), "")


def wish(replica: str, lora: str) -> str:
    """Where a request wants to go, as the router reads it."""
    return f"replica:{replica}" if replica else f"lora:{lora}" if lora else ""


def read_wish(text: str) -> tuple[str, str]:
    """The replica and the LoRAs of `wish`."""
    kind, _, name = text.partition(":")
    return (name if kind == "replica" else "", name if kind == "lora" else "")
