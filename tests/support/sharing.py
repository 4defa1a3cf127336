"""What one process of tests opens once: networks, tokenizers and checksums of folders that never change.

Opening a built-in model takes longer than editing with it in two steps. Neither a session of ONNX Runtime nor a
tokenizer holds anything of the calls before, so all editors of a process share those of the built-in models and of what
is kept on disk (see `kept`), as long as no weights are replaced in them. In a worker, one thread computes.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from kept import cache_folder
from pixrt.backends.ort.backend import OrtBackend, OrtEngine
from pixrt.backends.protocol import NewWeight
from pixrt.bundles import store
from pixrt.bundles.manifest import AddedToken, Component, TokenizerSpec
from pixrt.bundles.store import BUILT_IN, Bundle
from pixrt.bundles.tokenizer import Tokenizer


def share_all() -> None:
    """From now on, share what folders that never change hold."""
    _share_networks()
    _share_tokenizers()
    _share_checksums()


def never_changes(path: Path) -> bool:
    return path.is_relative_to(BUILT_IN) or path.is_relative_to(cache_folder())


def _share_networks() -> None:
    opened: dict[Any, OrtEngine] = {}
    original = OrtBackend.open

    def open_(backend: OrtBackend, bundle: Bundle, component: Component, weights: Iterable[NewWeight] = ()) -> Any:
        given, path = list(weights), bundle.file(component)
        if given or not never_changes(path):
            return original(backend, bundle, component, given)
        key = (path, backend.name, backend._threads, *backend._settings.items())
        if key not in opened:
            opened[key] = original(backend, bundle, component)
        first = opened[key]
        return OrtEngine(first._session, bundle.manifest.component(component), first._on_host)

    OrtBackend.open = open_  # type: ignore[method-assign]


def _share_tokenizers() -> None:
    made: dict[tuple[Path, TokenizerSpec], dict[str, Any]] = {}
    original = Tokenizer.__init__

    def init(self: Tokenizer, folder: Path, spec: TokenizerSpec, given: Sequence[AddedToken] = ()) -> None:
        if (folder, spec) in made and not given:
            vars(self).update(made[folder, spec])
            return
        original(self, folder, spec, given)
        if never_changes(folder) and not given:
            made[folder, spec] = dict(vars(self))

    Tokenizer.__init__ = init  # type: ignore[method-assign]


def _share_checksums() -> None:
    known: dict[Path, str] = {}
    original = store.sha256_file

    def sha256_file(path: Path) -> str:
        if path not in known:
            digest = original(path)
            if not never_changes(path):
                return digest
            known[path] = digest
        return known[path]

    store.sha256_file = sha256_file


def take_one_thread() -> None:
    """There is a worker for every core, so each of them, and what it starts, computes in one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # PyTorch's and SciPy's
    opened = onnxruntime.InferenceSession.__init__

    def open_(self: Any, model: Any, sess_options: Any = None, *arguments: Any, **given: Any) -> None:
        options = sess_options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        opened(self, model, options, *arguments, **given)

    onnxruntime.InferenceSession.__init__ = open_
