"""A plan on its way from the file to the library: piece by piece where the bindings have a reader, else in one.

A plan is as large as the weights: read in pieces it is never whole in the host's memory, which on a board that shares
it with the GPU is the device's too. Must not import TensorRT.
"""

import os
from typing import Any, BinaryIO

from pixrt.bundles.engine_files import open_engine, read_engine
from pixrt.bundles.engine_spec import EngineSpec
from pixrt.bundles.store import Bundle
from pixrt.errors import EngineError

_PIECE = 64 << 20


def deserialize(module: Any, runtime: Any, bundle: Bundle, spec: EngineSpec, *, own_only: bool) -> Any:
    """The engine of a plan that has been checked, None where the library refuses. Raises EngineError as `read_engine`.

    TensorRT has `IStreamReaderV2` from 10.9 on at the latest.
    """
    if not hasattr(module, "IStreamReaderV2"):
        return runtime.deserialize_cuda_engine(read_engine(bundle.folder, spec, bundle.manifest, own_only=own_only))
    with open_engine(bundle.folder, spec, bundle.manifest, own_only=own_only) as file:
        before = _identity(file)
        engine = runtime.deserialize_cuda_engine(_make_reader(module, file))
        if _identity(file) != before:
            del engine  # here, in the device's thread: the traceback would keep it
            raise EngineError(f"{spec.file} was changed while it was read", remedy="Open the bundle again")
    return engine


def _identity(file: BinaryIO) -> tuple[int, int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _make_reader(module: Any, file: BinaryIO) -> Any:
    class Reader(module.IStreamReaderV2):  # type: ignore[misc]
        """The file, as the library asks for it."""

        def __init__(self) -> None:
            module.IStreamReaderV2.__init__(self)

        def read(self, num_bytes: int, stream: int) -> bytes:
            return file.read(min(num_bytes, _PIECE))

        def seek(self, offset: int, where: Any) -> bool:
            file.seek(offset, int(where))
            return True

    return Reader()
