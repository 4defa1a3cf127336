"""How tests open ONNX Runtime's sessions: once for each network that never changes, and in one thread in a worker.

Opening the built-in model takes longer than editing with it in two steps. A session holds nothing of the calls before,
so all editors of a process share those of the built-in model and of what is kept on disk (see `kept`), as long as no
weights are replaced in them.
"""

import os
from collections.abc import Iterable
from typing import Any

import onnxruntime

from kept import cache_folder
from pixrt.backends.ort.backend import OrtBackend, OrtEngine
from pixrt.backends.protocol import NewWeight
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import BUILT_IN, Bundle


def share_sessions() -> None:
    """Open every network of a folder that never changes once in this process."""
    opened: dict[Any, OrtEngine] = {}
    original = OrtBackend.open

    def open_(backend: OrtBackend, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> Any:
        given, path = list(weights), bundle.file(component)
        if given or not any(path.is_relative_to(folder) for folder in (BUILT_IN, cache_folder())):
            return original(backend, bundle, component, given)
        key = (path, backend.name, backend._threads, *backend._settings.items())
        if key not in opened:
            opened[key] = original(backend, bundle, component)
        first = opened[key]
        return OrtEngine(first._session, bundle.manifest.component(component), first._on_host)

    OrtBackend.open = open_  # type: ignore[method-assign]


def take_one_thread() -> None:
    """There is a worker for every core, so each of them, and what it starts, computes in one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch's and SciPy's
    opened = onnxruntime.InferenceSession.__init__

    def open_(self: Any, model: Any, sess_options: Any = None, *arguments: Any, **given: Any) -> None:
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        opened(self, model, options, *arguments, **given)

    onnxruntime.InferenceSession.__init__ = open_
