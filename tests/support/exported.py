"""Checkpoints and their bundles, made when first asked for and kept on disk (see `kept`). Needs PyTorch."""

import inspect
import platform
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

import checkpoints
from checkpoints import DATA, make_checkpoint
from kept import Kept, hash_of

ROOT = DATA.parent.parent
LIBRARIES = ("accelerate", "diffusers", "numpy", "onnx", "onnx-ir", "onnxruntime", "optimum", "optimum-onnx", "peft")
LIBRARIES += ("safetensors", "tokenizers", "torch", "transformers")


class Exports:
    """`checkpoint("sd1")` and `bundle("sd1", "fp16")`; "shapes" is the built-in model of drawn scenes.

    What they return must not be changed: see `kept.writable_copy`.
    """

    def __init__(self) -> None:
        self._kept = Kept(exporters_key())

    def checkpoint(self, kind: str) -> Path:
        if kind == "shapes":
            return DATA / "shapes_checkpoint"
        return self._kept.get(kind, lambda folder: make_checkpoint(kind, folder))

    def bundle(self, kind: str, precision: str) -> Path:
        from pixrt_export import ExportOptions, export_checkpoint

        def export(folder: Path) -> None:
            options = ExportOptions(
                checkpoint=str(self.checkpoint(kind)),
                output=folder,
                precision=precision,  # type: ignore[arg-type]
                source_scaling_factor=0.18215 if kind == "tiny_vae" else None,
                fused_step=True,
            )
            export_checkpoint(options, on_progress=lambda stage: None)

        return self._kept.get(f"{kind}-{precision}", export)

    def other(self, name: str, make: Callable[[Path], object]) -> Path:
        """A folder that a test file makes with the exporter: also by the key of that file."""
        source = Path(inspect.getsourcefile(make) or "")
        return self._kept.get(f"{name}-{hash_of([source])[:8]}", make)

    def changed(self) -> list[str]:
        """See `Kept.changed`."""
        return self._kept.changed()


@cache
def exporters_key() -> str:
    """A hash of the exporter, of all it imports of this repository, of what makes checkpoints, and of versions."""
    import grimp

    graph = grimp.build_graph("pixrt", "pixrt_export", exclude_type_checking_imports=True, cache_dir=None)
    modules = {"pixrt_export.export", *graph.find_upstream_modules("pixrt_export.export")}
    sources = [_source_of(module) for module in sorted(modules)]
    sources += [Path(checkpoints.__file__), Path(__file__), Path(__file__).with_name("peft_loras.py")]
    data = [path for path in (DATA / "shapes_checkpoint").rglob("*") if path.is_file()]
    versions = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    return hash_of([*sources, *data], [platform.python_version(), *versions])


def _source_of(module: str) -> Path:
    folder = ROOT / ("export" if module.startswith("pixrt_export") else "runtime") / module.replace(".", "/")
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
