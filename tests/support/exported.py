"""Checkpoints and their bundles, made once per test session when first asked for."""

from pathlib import Path

from checkpoints import DATA, make_checkpoint


class Exports:
    """`checkpoint("sd1")` and `bundle("sd1", "fp16")`; "demo" is the built-in model's checkpoint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def checkpoint(self, kind: str) -> Path:
        if kind == "demo":
            return DATA / "demo_checkpoint"
        folder = self._folder / kind
        return folder if folder.exists() else make_checkpoint(kind, folder)

    def bundle(self, kind: str, precision: str) -> Path:
        from pixrt_export import ExportOptions, export_checkpoint

        folder = self._folder / f"{kind}-{precision}"
        if not folder.exists():
            options = ExportOptions(
                checkpoint=str(self.checkpoint(kind)),
                output=folder,
                precision=precision,  # type: ignore[arg-type]
                source_scaling_factor=0.18215 if kind == "tiny_vae" else None,
                fused_step=True,
            )
            export_checkpoint(options, on_progress=lambda stage: None)
        return folder
