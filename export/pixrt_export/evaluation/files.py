"""What an evaluation leaves: JSON and pictures, and what must be known to repeat it. Must not import PyTorch."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from pixrt import __version__
from pixrt.bundles.manifest import LoraSpec, Manifest
from pixrt.editor.result import lora_parameters
from pixrt.files import atomic_write
from pixrt.options.tasks import Options


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write facts, whole or not at all. Raises OutputError."""
    with atomic_write(path) as file:
        file.write(json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_png(path: Path, picture: Image.Image) -> None:
    """Write a picture, whole or not at all. Raises OutputError."""
    with atomic_write(path) as file:
        picture.save(file, "PNG")


def describe_model(manifest: Manifest, options: Options, loras: Sequence[LoraSpec] = ()) -> dict[str, Any]:
    """The model, its LoRAs and the resolved parameters, as JSON: no path, no machine."""
    return {
        "pixrt": __version__,
        "model": manifest.name,
        "model_sha256": manifest.source.sha256,
        "precision": manifest.precision,
        **lora_parameters(loras),
        "parameters": {name: value for name, value in dataclasses.asdict(options).items() if name != "seed"},
    }
