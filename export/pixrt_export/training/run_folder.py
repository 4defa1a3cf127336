"""The folder of a run: of one run at a time, and of one plan for good. Must not import PyTorch.

plan.json          what the run was started with
checkpoints/       to go on from, the newest ones
start/             the new model it began with, if it began with none
latents/           of the training set, computed once
samples/           grids of samples       metrics.jsonl, tensorboard/, training.png    numbers and curves
model/             the finished model     pytorch_lora_weights.safetensors             the finished LoRA
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pixrt.errors import OutputError, TrainingError
from pixrt.files import atomic_write, make_folder, remove_leftovers
from pixrt.reading import read_json
from pixrt_export.training.plan import TrainingPlan

# What of a run's writing is never made over somebody else's.
OWN = ("checkpoints", "metrics.jsonl", "model", "pytorch_lora_weights.safetensors", "start", "training.png")
# What may change when a run goes on: how long it is, and what it leaves on the way.
FREE = {"steps", "checkpoint_every", "keep_checkpoints", "sample_every", "weights"}


@contextmanager
def run_folder(plan: TrainingPlan[Any]) -> Iterator[None]:
    """Hold a run's folder, made if it does not exist. Raises TrainingError if another run or plan has it."""
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
    facts = json.loads(json.dumps(plan.facts()))
    if path.is_file():
        before = read_json(path, refuse=lambda problem: TrainingError(problem, remedy="Give another folder with -o"))
        for name, old, new in _differences(before, facts):
            if name.rpartition(".")[2] not in FREE:
                raise TrainingError(
                    f"the run in {plan.output} was started with {name} = {old!r:.80}, now it is {new!r:.80}",
                    remedy="Give another folder with -o, or the same options to go on",
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


def _differences(before: Any, after: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)
    elif before != after:
        yield name, before, after
