"""The server's log: a line each, as text or as JSON, and never what clients send: no prompt, no picture, no key.

An exception is told by its type and where it came from. Its message is left out: it may repeat what a client sent. Must
not import numpy or Pillow.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pixrt.options.serve import LogFormat

_log = logging.getLogger("pixrt.serve")
_PLAIN = re.compile('[^ "=]+')


def configure(format: LogFormat, level: int = logging.INFO) -> None:
    """Write the log of the whole process to standard error, from this level on; of libraries' only what warns."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(format))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("pixrt").setLevel(level)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it would warn of what is logged as a request, too


def tell(
    event: str,
    facts: Mapping[str, object] | None = None,
    *,
    level: int = logging.INFO,
    error: BaseException | None = None,
) -> None:
    """Log that something happened, and its facts: plain values."""
    if _log.isEnabledFor(level):
        _log.log(level, event, exc_info=error, extra={"facts": facts or {}})


class Formatter(logging.Formatter):
    """Records of `tell`, and those of libraries, without content."""

    def __init__(self, format: LogFormat) -> None:
        super().__init__()
        self._is_json = format == "json"

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        facts: Mapping[str, Any] = getattr(record, "facts", {})
        said = {"time": time, "level": record.levelname.lower(), "event": _event(record), **facts, **_error(record)}
        if self._is_json:
            return json.dumps(said, default=str)
        first = " ".join(str(said.pop(name)) for name in ("time", "level", "event"))
        return " ".join([first, *_pairs(said)])


def _event(record: logging.LogRecord) -> str:
    """What is said. asyncio's second line is an object with the exception in it."""
    return " ".join(record.getMessage().splitlines()[:1])


def _error(record: logging.LogRecord) -> dict[str, object]:
    """The exception's type and those of its causes, and the innermost frames."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return {
        "error": " from ".join(f"{type(each).__module__}.{type(each).__qualname__}" for each in _chain(error)),
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _pairs(said: Mapping[str, object]) -> Iterator[str]:
    """`name=value`; a value that is not one plain word is quoted, so that a line stays one."""
    for name, value in said.items():
        text = str(value)
        plain = _PLAIN.fullmatch(text) and text.isprintable()
        yield f"{name}={text if plain else json.dumps(text)}"
