"""What training writes at its end: a checkpoint in diffusers' format, whole or not at all."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from pixrt.bundles.instructions import INSTRUCTIONS_NAME
from pixrt.errors import OutputError
from pixrt.folders import atomic_folder
from pixrt_export.checkpoint import Checkpoint
from pixrt_export.hub import PARTS, read_json

INDEX = {
    "_class_name": "StableDiffusionInstructPix2PixPipeline",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@contextmanager
def checkpoint_folder(target: Path, index: Mapping[str, Any] = INDEX) -> Iterator[Path]:
    """A temporary folder that takes the place of `target` when everything in it is written; `index` is written last.

    Raises OutputError.
    """
    try:
        with atomic_folder(target) as folder:
            yield folder
            (folder / "model_index.json").write_text(json.dumps(dict(index), indent=1) + "\n", "utf-8")
    except SafetensorError as error:
        raise OutputError(f"cannot write {target}: {error}", remedy="Free some space and start again") from error


def write_checkpoint(
    target: Path,
    start: Checkpoint,
    trained: Mapping[str, Any],
    dtype: torch.dtype,
    instructions: Mapping[str, Sequence[str]],
) -> None:
    """Write the checkpoint `start` with some parts replaced by trained networks, all weights as `dtype`.

    `instructions` are what it was taught to edit by, by kind; none where nobody can say. Raises OutputError.
    """
    described = start.folder / "model_index.json"
    index = read_json(described, required=False) or INDEX
    if "unet" in trained:  # one that came from text-to-image has become an editing one
        index = {**index, "_class_name": INDEX["_class_name"]}
    with checkpoint_folder(target, index) as folder:
        for part in PARTS:
            if part in ("scheduler", "tokenizer"):
                shutil.copytree(start.folder / part, folder / part)
            else:
                network = trained[part] if part in trained else start.load(part)
                network.to(dtype).save_pretrained(folder / part)
                _forget_origin(folder / part / "config.json")
        if instructions:
            said = json.dumps(instructions, indent=1, ensure_ascii=False)
            (folder / INSTRUCTIONS_NAME).write_text(said + "\n", "utf-8")


def _forget_origin(path: Path) -> None:
    """Take out the folder that a network was read from: it says nothing elsewhere."""
    config = read_json(path)
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
