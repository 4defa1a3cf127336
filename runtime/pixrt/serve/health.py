"""Whether the server lives, and whether it takes work. Must not import numpy or Pillow."""

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

if TYPE_CHECKING:
    from pixrt.serve.service import Service


def router(service: "Service") -> APIRouter:
    """`GET /health/live` and `GET /health/ready`."""
    routes = APIRouter(prefix="/health", tags=["operations"])
    not_ready: dict[int | str, dict[str, Any]] = {503: {"description": "Not now; `reason` says why."}}

    @routes.get("/live")
    async def live() -> dict[str, str]:
        """Whether the server answers at all. It does so while a model is loaded, and while it shuts down."""
        return {"status": "live"}

    @routes.get("/ready", responses=not_ready)
    async def ready() -> JSONResponse:
        """Whether pictures are made."""
        if service.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": service.why_not_ready}, 503, {"retry-after": "1"})

    return routes
