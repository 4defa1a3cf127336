"""What stands between the network and the application, outermost first: outcomes, the entrance, uploads.

Must not import numpy or Pillow.
"""

from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from pixrt.serve.guard.entrance import Entrance
from pixrt.serve.guard.keys import Keys
from pixrt.serve.guard.outcomes import Outcomes
from pixrt.serve.guard.uploads import Uploads

if TYPE_CHECKING:
    from pixrt.serve.guard.guarded import Guarded


def protect(app: ASGIApp, service: "Guarded", keys: Keys | None = None) -> ASGIApp:
    """The application as the network sees it. Without keys everybody who reaches it is let in."""
    return Outcomes(Entrance(Uploads(app, service), service, keys), service.metrics)
