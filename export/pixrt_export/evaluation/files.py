"""What must be known to repeat an evaluation. Must not import PyTorch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from pixrt import __version__
from pixrt.bundles.manifest import LoraSpec, Manifest
from pixrt.editor.result import lora_parameters
from pixrt.options.tasks import Options


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
