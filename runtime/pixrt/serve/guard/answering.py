"""Problems as answers of ASGI. Must not import numpy or Pillow."""

import json

from starlette.types import Scope, Send

from pixrt.serve.interfaces.protocols import interface_of
from pixrt.serve.problems import Problem


async def refuse(problem: Problem, scope: Scope, send: Send, *, close: bool = False) -> None:
    """Answer a request by a problem, in its interface's shape; `close` ends the connection, too."""
    body = json.dumps(interface_of(scope["path"]).error(problem)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    if problem.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="pixrt"'))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
