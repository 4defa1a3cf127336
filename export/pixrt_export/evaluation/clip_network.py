"""CLIP in PyTorch: pictures and texts to vectors of one space, as the InstructPix2Pix metrics compute them.

After metrics/clip_similarity.py and metrics/compute_metrics.py of timothybrooks/instruct-pix2pix: bicubic
interpolation to a square without antialiasing, CLIP's mean and deviation, texts cut to the context. What the script
calls pictures from 0 to 1 are in fact from -1 to 1 there; `original` repeats that, `correct` does not. The two must
never be mixed: their numbers differ. One difference stays: the script embeds the decoder's floats, and here the edit
is a picture first, with 8 bits and nothing beyond black and white.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizerFast

from pixrt.errors import CheckpointError, OptionError
from pixrt.reading import read_json

Preprocessing = Literal["original", "correct"]
PREPROCESSINGS: tuple[str, ...] = get_args(Preprocessing)
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_CONVERT = (
    "Convert it once, where you trust it: `CLIPModel.from_pretrained(FOLDER).save_pretrained(FOLDER,"
    " safe_serialization=True)` of transformers"
)


class ClipNetwork:
    """A CLIPModel in transformers' folder format, safetensors only. Raises CheckpointError, OptionError."""

    def __init__(self, folder: Path, preprocessing: Preprocessing) -> None:
        if preprocessing not in PREPROCESSINGS:
            raise OptionError(f"preprocessing is {preprocessing!r}", remedy=f"Choose {' or '.join(PREPROCESSINGS)}")
        _require_clip(folder)
        self._name = folder.resolve().name
        self._preprocessing = preprocessing
        try:
            model, notes = CLIPModel.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
            self._tokenizer = CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the library raises many unrelated types on broken files
            raise CheckpointError(f"the CLIP checkpoint {folder} cannot be loaded: {error}", remedy=_AGAIN) from error
        if notes["missing_keys"]:
            missing = sorted(notes["missing_keys"])
            raise CheckpointError(f"{folder} lacks {len(missing)} weights, such as {missing[0]}", remedy=_AGAIN)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.float().eval().to(self._device)

    @property
    def name(self) -> str:
        """What the checkpoint's folder is called."""
        return self._name

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Embed pictures [H, W, 3] of any size: [N, D]."""
        side = self._model.config.vision_config.image_size
        batch = torch.cat([prepare(picture, side, self._preprocessing) for picture in pictures])
        return _to_array(self._model.get_image_features(pixel_values=batch.to(self._device)))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Embed texts, what does not fit the context cut off: [N, D]."""
        length = self._model.config.text_config.max_position_embeddings
        ids = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).input_ids
        return _to_array(self._model.get_text_features(input_ids=ids.to(self._device)))


def prepare(picture: NDArray[np.uint8], side: int, preprocessing: Preprocessing) -> torch.Tensor:
    """A picture [H, W, 3] as CLIP's input: [1, 3, side, side]."""
    unit = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]
    values = 2 * unit - 1 if preprocessing == "original" else unit
    values = functional.interpolate(values, size=(side, side), mode="bicubic", align_corners=False)
    return (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def _to_array(features: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = features.double().cpu().numpy()
    return array


def _require_clip(folder: Path) -> None:
    """Raise CheckpointError unless this is the folder of a CLIPModel with safetensors."""

    def refuse(problem: str) -> CheckpointError:
        return CheckpointError(
            f"{folder} has no config.json that can be read: {problem}",
            remedy="Give the folder of a CLIPModel of transformers",
        )

    config: Any = read_json(folder / "config.json", refuse=refuse)
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "clip":
        raise CheckpointError(f"{folder} holds a model of type {kind!r}, not clip", remedy="Give a CLIPModel's folder")
    if any((folder / name).is_file() for name in _WEIGHTS):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise CheckpointError(f"the weights of {folder} are a pickle ({pickles[0]})", remedy=_CONVERT)
    raise CheckpointError(f"{folder} has no {_WEIGHTS[0]}", remedy="Download the whole checkpoint")


_AGAIN = "Download the checkpoint again"
