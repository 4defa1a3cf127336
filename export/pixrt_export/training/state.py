"""Checkpoints of a run: weights, averaged weights and the optimiser's moments, as safetensors and JSON, never pickles.

A checkpoint is a folder `step-00000500` that is written under another name and renamed, so it is whole or not there.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pixrt.errors import OutputError, TrainingError
from pixrt.folders import atomic_folder
from pixrt.reading import read_json


@dataclass(frozen=True, slots=True)
class State:
    """What a run needs to go on after `step` optimiser steps. Every tensor by the name of its parameter."""

    step: int
    weights: dict[str, torch.Tensor]
    averaged: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]  # `PARAMETER/exp_avg`, `PARAMETER/exp_avg_sq`, `PARAMETER/step`
    scaler: dict[str, Any]  # of fp16's loss scaling, else empty


def save_state(folder: Path, state: State, keep: int) -> Path:
    """Write `folder/step-XXXXXXXX` and remove all but the newest `keep`. Raises OutputError."""
    target = folder / f"step-{state.step:08d}"
    try:
        with atomic_folder(target) as made:
            for name in ("weights", "averaged", "optimizer"):
                tensors = {key: tensor.detach().contiguous() for key, tensor in getattr(state, name).items()}
                save_file(tensors, made / f"{name}.safetensors")
            (made / "state.json").write_text(json.dumps({"step": state.step, "scaler": state.scaler}), "utf-8")
    except (OutputError, SafetensorError) as error:
        raise OutputError(
            f"cannot write the checkpoint of step {state.step} to {folder}: {error}",
            remedy="Free some space and start again: the run goes on from the checkpoint before",
        ) from error
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_state(checkpoint: Path) -> State:
    """Read one checkpoint. Raises TrainingError if it cannot be read."""
    try:
        facts = read_json(checkpoint / "state.json", refuse=ValueError)
        tensors = {name: load_file(checkpoint / f"{name}.safetensors") for name in ("weights", "averaged", "optimizer")}
        if not (type(facts["step"]) is int and facts["step"] >= 0 and isinstance(facts["scaler"], dict)):
            raise ValueError("state.json says no step, or no scaler")
        return State(step=facts["step"], scaler=facts["scaler"], **tensors)
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        raise TrainingError(
            f"the checkpoint {checkpoint} cannot be read: {error}",
            remedy="Remove that folder: the run goes on from the checkpoint before",
        ) from error


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []
