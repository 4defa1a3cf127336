"""Messages over a socket between the front and its worker: a length of eight bytes, then a pickle of plain classes.

Neither end takes anything but pixrt's own classes and plain values, so that a worker that a picture has broken into
cannot do so to the front. Must not import numpy or Pillow.
"""

import asyncio
import functools
import importlib
import io
import pickle
import socket
import threading
from dataclasses import is_dataclass
from enum import Enum
from typing import Any

_LENGTH = 8
_PLAIN = {("builtins", "set"), ("builtins", "frozenset"), ("pathlib", "PosixPath"), ("pathlib", "WindowsPath")}


@functools.cache
def _find(module: str, name: str) -> Any:
    if (module, name) in _PLAIN or (module.startswith("pixrt.") and "." not in name):
        found = getattr(importlib.import_module(module), name)
        # Not what a module of ours has imported, nor anything of ours that acts.
        if (module, name) in _PLAIN or (_is_plain(found) and found.__module__ == module):
            return found
    raise pickle.UnpicklingError(f"{module}.{name} is no message of pixrt's")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _find(module, name)


def _is_plain(found: Any) -> bool:
    return isinstance(found, type) and (is_dataclass(found) or issubclass(found, Enum))


def _packed(message: object) -> tuple[bytes, bytes]:
    data = pickle.dumps(message, protocol=5)
    return len(data).to_bytes(_LENGTH, "little"), data


def _unpacked(data: bytes) -> Any:
    return _Reader(io.BytesIO(data)).load()


class WorkerEnd:
    """The worker's end: blocking, for any number of threads that send and one that receives."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message: object) -> None:
        """Raises OSError if the front is gone."""
        length, data = _packed(message)
        with self._lock:
            self._connection.sendall(length + data if len(data) < 1 << 16 else length)
            if len(data) >= 1 << 16:
                self._connection.sendall(data)

    def receive(self) -> Any:
        """The next message; None if the front is gone."""
        length = self._file.read(_LENGTH)
        if len(length) < _LENGTH:
            return None
        data = self._file.read(size := int.from_bytes(length, "little"))
        return _unpacked(data) if len(data) == size else None


class FrontEnd:
    """The front's end, on its event loop: sending never waits, not even for a worker that has stopped."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connection: socket.socket) -> "FrontEnd":
        """The end of an open socket."""
        return cls(*await asyncio.open_connection(sock=connection, limit=1 << 20))

    def send(self, message: object) -> None:
        """Write a message when there is room; nothing if the worker has gone, which `receive` tells."""
        if not self._writer.is_closing():
            self._writer.writelines(_packed(message))

    async def receive(self) -> Any:
        """The next message; None if the worker is gone."""
        try:
            length = await self._reader.readexactly(_LENGTH)
            return _unpacked(await self._reader.readexactly(int.from_bytes(length, "little")))
        except (asyncio.IncompleteReadError, OSError):
            return None

    def close(self) -> None:
        """Nothing is sent any more."""
        self._writer.close()
