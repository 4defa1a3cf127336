"""The application: every interface's routes, errors in one shape, and the OpenAPI document. Must not import numpy."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from sse_starlette.sse import AppStatus
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route
from starlette.types import Message

from pixrt._version import __version__
from pixrt.errors import PixrtError
from pixrt.serve import health, metrics, page
from pixrt.serve.interfaces import a1111, huggingface, kserve, parameters
from pixrt.serve.interfaces import jobs as jobs_api
from pixrt.serve.interfaces import openai as openai_api
from pixrt.serve.interfaces.describing import READING
from pixrt.serve.interfaces.protocols import interface_of
from pixrt.serve.problems import Problem
from pixrt.serve.service import Service
from pixrt.serve.statuses import problem_of

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}
# Pages of documentation would load scripts from elsewhere; these keys turn off what FastAPI would send by itself.
_QUIET: dict[str, Any] = {
    "docs_url": None,
    "redoc_url": None,
    "telemetry": {"auto_configure": False, "logs": False, "metrics": False, "operation_spans": False},
}


def make_app(service: Service) -> FastAPI:
    """The application of a service, without the guard."""
    limit = service.options.max_body_mib << 20
    # What comes is in memory by then: nothing is written to a disk.
    MultiPartParser.spool_max_size = limit
    # Streams end with their tickets, also while the server drains; ending them earlier would lose pictures.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
    # A path with a slash too many is none: a redirection would be made of the Host that the client says.
    app = FastAPI(
        title="pixrt",
        version=__version__,
        max_body_size=limit,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        **_QUIET,
    )
    app.state.routes = []
    for module in (openai_api, jobs_api, parameters, kserve, a1111, huggingface, health, metrics, page):
        router = module.router(service)
        app.include_router(router, responses=READING)
        app.state.routes += [route for route in router.routes if isinstance(route, Route)]
    # They are coroutines: Starlette would call others in threads.
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(PixrtError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    app.add_exception_handler(Exception, _on_failure)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


async def warm_up(app: FastAPI) -> None:
    """Ask for the page, and send an empty form, without the guard, which would count them.

    FastAPI builds every route when it first looks for one; nobody should have to wait for that.
    """
    for method, path in (("GET", "/"), ("POST", "/v1/images/edits")):
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "query_string": b"",
            "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
        }
        await app(scope, _nothing, _ignore)


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"--x--\r\n", "more_body": False}


async def _ignore(message: Message) -> None:
    pass


def respond(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """A problem as the interface's clients read it."""
    body = interface_of(request.url.path).error(problem)
    return JSONResponse(body, problem.status, {**problem.headers, **(headers or {})})


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return respond(request, error)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PixrtError)
    return respond(request, problem_of(error))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """A path, a header or a query that FastAPI reads itself."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    return respond(request, Problem(400, "invalid_value", f"{name}: {first['msg']}. See /openapi.json.", name))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "invalid_request")
    headers = dict(error.headers or {})
    if error.status_code == 405:  # Starlette tells the methods of the first route alone, in any order
        told = (error.headers or {}).get("Allow", "").split(", ")
        headers = {"allow": ", ".join(sorted(set(_methods(request)) or set(told)))}
    return respond(request, Problem(error.status_code, code, f"{error.detail}."), headers)


def _methods(request: Request) -> Iterator[str]:
    """What its path can be asked with."""
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            yield from route.methods or ()


async def _on_gone(request: Request, error: Exception) -> Response:
    return respond(request, Problem(499, "cancelled", "The client went away."))


async def _on_failure(request: Request, error: Exception) -> Response:
    """What nobody thought of. It is raised again afterwards, and logged by the guard without its message."""
    return respond(request, problem_of(PixrtError("", remedy="")))


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; what FastAPI adds by itself and does not hold here is left out: 422 is 400."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        app.openapi_schema = document
    return app.openapi_schema
