"""The folder of a run: of one run at a time, and of one plan for good. Must not import PyTorch.

plan.json          what the run was started with
checkpoints/       to go on from, the newest ones
start/             the new model it began with, if it began with none
latents/           of the training set, computed once
samples/           grids of samples       metrics.jsonl, tensorboard/, training.png    numbers and curves
model/             the finished model     pytorch_lora_weights.safetensors             the finished LoRA
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pixrt.errors import OptionError, OutputError, TrainingError
from pixrt.files import atomic_write, make_folder, remove_leftovers
from pixrt.reading import read_json, read_regular
from pixrt_export.opening import open_checkpoint
from pixrt_export.training.plan import DataOptions, PreviewOptions, TrainingPlan

# What of a run's writing is never made over somebody else's.
OWN = ("checkpoints", "metrics.jsonl", "model", "pytorch_lora_weights.safetensors", "start", "training.png")
# What may change when a run goes on: how long it is, and what it leaves on the way.
FREE = {"steps", "checkpoint_every", "keep_checkpoints", "sample_every", "weights"}
# How inputs are called; what they hold is compared instead, where the run says that of them.
NAMED = {"checkpoint": "checkpoint", "data.folder": "data", "training.prior": "prior"}
_MOST_PRIOR_BYTES = 16 << 20
_SHA256 = 64  # characters
RESULTS = ("model", "pytorch_lora_weights.safetensors")


@contextmanager
def run_folder(plan: TrainingPlan[Any]) -> Iterator[None]:
    """Hold a run's folder, made if it does not exist.

    A run that has no checkpoint yet has learned nothing, and may be started anew with another plan. Raises
    TrainingError if another run or plan has it, or it has more steps behind it; CheckpointError and DataError for
    inputs that cannot be opened.
    """
    make_folder(plan.output)
    lock = FileLock(plan.output / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingError(
            f"another process trains in {plan.output}", remedy="Wait for it, or give another folder with -o"
        ) from None
    try:
        remove_leftovers(plan.output, deep=True)
        _require_same(plan)
        yield
    finally:
        lock.release()


def _require_same(plan: TrainingPlan[Any]) -> None:
    path = plan.output / "plan.json"
    _require_own(plan.output)
    facts = json.loads(json.dumps(plan.facts())) | {"inputs": _inputs(plan)}
    if path.is_file():
        before = read_json(path, refuse=lambda problem: TrainingError(problem, remedy="Give another folder with -o"))
        different = list(_changes(_with_defaults(before, plan), facts))
        if different and not _has_learned(plan.output):
            shutil.rmtree(plan.output / "start", ignore_errors=True)
        elif different:
            name, old, new = different[0]
            raise TrainingError(
                f"the run in {plan.output} was started with {_told(name, old)}, now it is {_told('', new)}",
                remedy="Give another folder with -o, or the same options and inputs to go on",
            )
    done = max((int(found.name.removeprefix("step-")) for found in _checkpoints(plan.output)), default=0)
    if plan.training.steps < done:
        raise TrainingError(
            f"the run in {plan.output} has {done} steps behind it, and steps is {plan.training.steps}",
            remedy=f"Give --steps {done} or more, or another folder with -o",
        )
    with atomic_write(path) as file:
        file.write(json.dumps(facts, indent=1).encode() + b"\n")


def _require_own(folder: Path) -> None:
    """Raise OutputError if the folder is no run's and holds what a run would write: that is somebody else's."""
    found = sorted(name for name in OWN if (folder / name).exists() or (folder / name).is_symlink())
    if found and not (folder / "plan.json").is_file():
        raise OutputError(
            f"{folder} holds {found[0]}, which no run has written", remedy="Move it, or give another folder with -o"
        )


def _inputs(plan: TrainingPlan[Any]) -> dict[str, str]:
    """What the run learns from, by content: it may move, and must not change."""
    inputs = {}
    if plan.checkpoint:
        inputs["checkpoint"] = open_checkpoint(plan.checkpoint).sha256()
    if plan.data.folder:
        inputs["data"] = plan.data.open().fingerprint()
    prior = getattr(plan.training, "prior", "")
    if prior:
        text = read_regular(prior, _MOST_PRIOR_BYTES, lambda told: OptionError(told, remedy="Give a text file"))
        inputs["prior"] = hashlib.sha256(text).hexdigest()
    return inputs


def _changes(before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    """What must not be another one, and is."""
    told = before.get("inputs") if isinstance(before, dict) else None
    known = told if isinstance(told, dict) else {}
    for name, old, new in _differences(before, after):
        by_content = NAMED.get(name) in known and NAMED.get(name) in after["inputs"]
        unsaid = name.partition(".")[0] == "inputs" and told is None  # by an older pixrt
        if not (by_content or unsaid or name.rpartition(".")[2] in FREE):
            yield name, old, new


def _with_defaults(before: Any, plan: TrainingPlan[Any]) -> Any:
    """What a plan says, with the defaults of the options that did not exist when it was written."""
    if not isinstance(before, dict):
        return before
    filled = dict(before)
    for name, kind in (("data", DataOptions), ("preview", PreviewOptions), ("training", type(plan.training))):
        said = filled.get(name)
        if isinstance(said, dict):
            filled[name] = json.loads(json.dumps(dataclasses.asdict(kind()))) | said
    return filled


def _has_learned(folder: Path) -> bool:
    return any(_checkpoints(folder)) or any((folder / name).exists() for name in RESULTS)


def _checkpoints(folder: Path) -> Iterator[Path]:
    return (found for found in folder.glob("checkpoints/step-*") if found.name.removeprefix("step-").isdigit())


def _told(name: str, value: Any) -> str:
    """An option and its value; an input by the start of its SHA-256."""
    if isinstance(value, str) and len(value) == _SHA256:
        value = value[:12]
    return f"{name} = {value!r:.80}" if name else f"{value!r:.80}"


def _differences(before: Any, after: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)
    elif before != after:
        yield name, before, after
