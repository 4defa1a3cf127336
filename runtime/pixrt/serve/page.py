"""The web page at `/`, and its files. Anybody may read them: they are the same for all. Must not import numpy."""

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from pixrt.page.files import BENEATH, Page

if TYPE_CHECKING:
    from pixrt.serve.service import Service

_METHODS = ["GET", "HEAD"]


def router(service: "Service") -> APIRouter:
    """`/`, and what is beneath `/page/`."""
    routes = APIRouter()
    page = Page()

    def answer(path: str, request: Request) -> Response:
        found = page.answer(path, request.headers, is_head=request.method == "HEAD")
        if found is None:
            raise HTTPException(404)
        return Response(found.body, found.status, found.headers)

    @routes.api_route("/", methods=_METHODS, include_in_schema=False)
    async def index(request: Request) -> Response:
        """The page."""
        return answer("", request)

    @routes.api_route(f"/{BENEATH}{{path:path}}", methods=_METHODS, include_in_schema=False)
    async def file(path: str, request: Request) -> Response:
        """One of its files."""
        return answer(f"{BENEATH}{path}", request)

    return routes
