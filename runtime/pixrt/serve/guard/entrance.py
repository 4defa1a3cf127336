"""Whom the server lets in: by the name it is called by, where a web page comes from, key, rate, and room.

All of it is decided by a request's head, before anything of its body is read. Must not import numpy or Pillow.
"""

import math
import re
import time
from typing import TYPE_CHECKING

from limits import parse as parse_rate
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

from pixrt.serve.guard.answering import refuse
from pixrt.serve.guard.keys import Keys, carried_key
from pixrt.serve.interfaces.protocols import PAGE, interface_of
from pixrt.serve.problems import Problem

if TYPE_CHECKING:
    from pixrt.serve.guard.guarded import Guarded

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:]+)(?::[0-9]*)?")
# What an orchestrator asks without a key; it tells nothing but yes or no.
_OPEN = frozenset({"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"})


class Entrance:
    """Wraps the application. In a request's `state` it leaves `client`: whose tickets the request may see."""

    def __init__(self, app: ASGIApp, service: "Guarded", keys: Keys | None) -> None:
        self._app = app
        self._service = service
        self._keys = keys
        self._hosts = service.options.hosts
        self._open = _OPEN | {"/metrics"} if service.options.open_metrics else _OPEN
        self._rate = _Rate(service.options.rate) if service.options.rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        try:
            if scope["type"] == "http":
                self._check(scope)
        except Problem as problem:
            await refuse(problem, scope, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raises Problem for a request that is not let in."""
        _check_names(scope, self._hosts)
        scope.setdefault("state", {})["client"] = client = self._client(scope)
        if interface_of(scope["path"]).is_for_pictures(scope["method"], scope["path"]):
            if self._rate is not None:
                self._rate.check(client)
            check_room(self._service)

    def _is_open(self, scope: Scope) -> bool:
        """Whether it needs no key: health, and reading the page, which is the same for everybody."""
        is_page = scope["method"] in ("GET", "HEAD") and interface_of(scope["path"]) is PAGE
        return is_page or scope["path"] in self._open

    def _client(self, scope: Scope) -> str:
        """Who asks: a key's name, or an address if there are no keys. Raises Problem."""
        if self._keys is None or self._is_open(scope):
            return f"addr:{(scope.get('client') or ('unknown', 0))[0]}"
        key = carried_key(scope["headers"])
        owner = None if key is None else self._keys.owner(key)
        if owner is None:
            what = "carries no API key" if key is None else "carries an API key that the server does not know"
            message = f"The request {what}. Send yours as Authorization: Bearer KEY, or as x-api-key."
            raise Problem(401, "invalid_api_key", message)
        return f"key:{owner}"


def check_room(service: "Guarded", entering: int = 0) -> None:
    """Raise Problem if the server takes no further picture now; seats for those that are `entering` are not free."""
    if not service.is_ready:
        raise Problem(503, "not_ready", f"Not now: {service.why_not_ready}.", retry_after=service.retry_after)
    if service.free <= entering:
        service.metrics.refused("queue_full")
        wait = service.retry_after
        message = f"The queue is full. Try again in {wait} s, when a place is expected to be free."
        raise Problem(429, "queue_full", message, retry_after=wait)


class _Rate:
    """Most requests for pictures of each client."""

    def __init__(self, rate: str) -> None:
        self._words = rate
        self._rate = parse_rate(rate)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, client: str) -> None:
        """Count a request. Raises Problem beyond the rate."""
        if self._limiter.hit(self._rate, client):
            return
        wait = max(1, math.ceil(self._limiter.get_window_stats(self._rate, client).reset_time - time.time()))
        message = f"More than {self._words} requests for pictures. Try again in {wait} s."
        raise Problem(429, "rate_limit_exceeded", message, retry_after=wait)


def _check_names(scope: Scope, hosts: frozenset[str] | None) -> None:
    """Refuse a name that is not the server's, and what a page of another site sends. Raises Problem.

    A page whose own name is made to mean this machine would else read pictures and results; one of any other name could
    still make the device work, as a form's POST asks nobody.
    """
    given = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
    names = [_without_port(value) for value in given]
    if hosts is not None and (len(names) != 1 or names[0] not in hosts):
        message = "The server is not called by this Host here. Say --allowed-hosts NAME if it should be."
        raise Problem(421, "wrong_host", message)
    for name, value in scope["headers"]:
        if name == b"origin":
            origin = value.decode("latin-1").lower().partition("://")[2]
            if origin not in given and (hosts is None or _without_port(origin) not in hosts):
                message = "The request comes from a page of another site. Say --allowed-hosts NAME if it is yours."
                raise Problem(403, "cross_origin", message)


def _without_port(host: str) -> str:
    """A Host's name or address, the brackets of an IPv6 address included; "" if it is none."""
    found = _HOST.fullmatch(host)
    return found[1] if found else ""
