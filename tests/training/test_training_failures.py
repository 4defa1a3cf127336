"""What goes wrong in a training run: a clear error, and the last checkpoint is kept."""

import errno
import math
from pathlib import Path
from typing import Any

import pytest

from pixrt.errors import OptionError, OutputError, TrainingError
from pixrt_export.training.options import EditTrainingOptions
from tiny_training import NETWORKS, Silent, plan_of, train

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch


def test_a_loss_that_is_not_finite(first_stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixrt_export.training.edit import EditJob

    whole = EditJob.loss
    calls = iter([1.0, 1.0, 1.0, math.nan])
    monkeypatch.setattr(EditJob, "loss", lambda *arguments: whole(*arguments) * next(calls))
    with pytest.raises(TrainingError, match="loss of step 4 is nan"):
        train("train_edit", plan_of(EditTrainingOptions, tmp_path, str(first_stage)))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


def test_no_memory(first_stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixrt_export.training.edit import EditJob

    def loss(*_: Any) -> Any:
        torch.empty(2**60)

    monkeypatch.setattr(EditJob, "loss", loss)
    with pytest.raises(TrainingError, match="no memory for batch_size 4"):
        train("train_edit", plan_of(EditTrainingOptions, tmp_path, str(first_stage)))


def test_a_full_disk(first_stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixrt_export.training import state

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    plan = plan_of(EditTrainingOptions, tmp_path, str(first_stage))
    train("train_edit", plan, Silent(stop_at=3))
    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(OutputError, match=r"step 4 to .*No space left"):
        train("train_edit", plan)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000002", "step-00000003"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="FP16 is for GPUs")
def test_fp16_without_a_gpu(first_stage: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="mixed_precision is fp16"):
        train("train_edit", plan_of(EditTrainingOptions, tmp_path, str(first_stage), mixed_precision="fp16"))


def test_a_broken_picture_is_named(first_stage: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from pixrt.errors import PictureError
    from pixrt_export.data.writing import write_pairs
    from pixrt_export.world.pairs import WorldPairs

    write_pairs(WorldPairs(8), tmp_path / "pairs", size=32, on_progress=lambda *_: None)
    broken = sorted((tmp_path / "pairs").rglob("*.png"))[5]
    broken.write_bytes(broken.read_bytes()[:100])
    plan = plan_of(EditTrainingOptions, tmp_path / "run", str(first_stage))
    with pytest.raises(PictureError, match=broken.name):
        train("train_edit", replace(plan, data=replace(plan.data, folder=str(tmp_path / "pairs"))))


def test_an_inpainting_model_is_refused(first_stage: Path, tmp_path: Path) -> None:
    import shutil

    from diffusers import UNet2DConditionModel

    from pixrt.errors import CheckpointError

    shutil.copytree(first_stage, tmp_path / "inpaint")
    UNet2DConditionModel(**{**NETWORKS["unet"], "in_channels": 9}).save_pretrained(tmp_path / "inpaint" / "unet")
    with pytest.raises(CheckpointError, match="9 input channels"):
        train("train_edit", plan_of(EditTrainingOptions, tmp_path / "run", str(tmp_path / "inpaint")))
