"""What a run is: its inputs by content, how far it has come, and the checkpoints that it can begin with."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from exported import Exports
from pixrt.errors import CheckpointError, DataError, TrainingError
from pixrt_export.data.writing import write_pairs
from pixrt_export.training.options import LoraOptions
from pixrt_export.training.plan import DataOptions, PreviewOptions, TrainingPlan
from pixrt_export.training.run_folder import run_folder
from pixrt_export.world.pairs import WorldPairs
from tiny_training import Silent, plan_of, train

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch
PREVIEW = PreviewOptions(steps=2, scenes=2)


@pytest.fixture
def plan(first_stage: Path, tmp_path: Path) -> TrainingPlan[Any]:
    """A run of a LoRA on pairs in a folder, which has three steps behind it."""
    write_pairs(WorldPairs(6), tmp_path / "pairs", size=32, on_progress=lambda done, total: None)
    made = plan_of(LoraOptions, tmp_path / "run", str(first_stage), rank=2)
    made = dataclasses.replace(made, data=DataOptions(folder=str(tmp_path / "pairs"), size=32))
    with run_folder(made):
        (made.output / "checkpoints" / "step-00000003").mkdir(parents=True)
    return made


def begin(plan: TrainingPlan[Any], **training: Any) -> None:
    with run_folder(dataclasses.replace(plan, training=dataclasses.replace(plan.training, **training))):
        pass


def test_inputs_are_what_they_hold(plan: TrainingPlan[Any], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "pairs")
    shutil.copytree(str(plan.checkpoint), tmp_path / "copy")
    begin(dataclasses.replace(plan, checkpoint=str(tmp_path / "copy")))
    begin(dataclasses.replace(plan, data=DataOptions(folder=f"{tmp_path}/./link/", size=32)))
    picture = next((tmp_path / "pairs").rglob("*.png"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    with pytest.raises(TrainingError, match=r"was started with inputs\.data = "):
        begin(plan)


def test_a_plan_of_a_version_without_an_option_goes_on(plan: TrainingPlan[Any]) -> None:
    """It had the default; another value is another run."""
    path = plan.output / "plan.json"
    before = json.loads(path.read_text())
    for section, name in (("data", "skip_missing"), ("preview", "scheduler"), ("training", "lora_dropout")):
        del before[section][name]
    path.write_text(json.dumps(before))
    begin(plan)
    del before["training"]["seed"]
    path.write_text(json.dumps(before))
    with pytest.raises(TrainingError, match="seed"):
        begin(plan, seed=7)


def test_another_checkpoint_of_the_same_name_is_refused(plan: TrainingPlan[Any], tmp_path: Path) -> None:
    shutil.copytree(str(plan.checkpoint), tmp_path / "copy")
    config = tmp_path / "copy" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": 16}))
    with pytest.raises(TrainingError, match=r"inputs\.checkpoint"):
        begin(dataclasses.replace(plan, checkpoint=str(tmp_path / "copy")))


def test_a_plan_of_an_older_version_goes_on(plan: TrainingPlan[Any]) -> None:
    path = plan.output / "plan.json"
    facts = json.loads(path.read_text())
    del facts["inputs"]
    path.write_text(json.dumps(facts))
    begin(plan)
    assert json.loads(path.read_text())["inputs"].keys() == {"checkpoint", "data"}


def test_fewer_steps_than_there_are_behind_it(plan: TrainingPlan[Any]) -> None:
    with pytest.raises(TrainingError, match="has 3 steps behind it, and steps is 2") as caught:
        begin(plan, steps=2)
    assert "--steps 3 or more" in caught.value.remedy
    begin(plan, steps=3)


def test_a_start_that_failed_locks_nothing(plan: TrainingPlan[Any], tmp_path: Path) -> None:
    shutil.rmtree(plan.output / "checkpoints")
    begin(plan, rank=5)  # nothing has been learned with another rank
    with pytest.raises(DataError):
        begin(dataclasses.replace(plan, output=tmp_path / "new", data=DataOptions(folder="nowhere")))
    begin(dataclasses.replace(plan, output=tmp_path / "new"))


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("text_to_image", None),
        ("inpainting", "9 input channels for latents of 4, and training sets have no masks"),
        ("tiny_vae", "AutoencoderTiny, which does not say how its source latents are scaled"),
    ],
)
def test_loras_of_every_kind_of_checkpoint(exports: Exports, tmp_path: Path, kind: str, problem: str | None) -> None:
    checkpoint = exports.checkpoint(kind)
    plan = plan_of(LoraOptions, tmp_path, str(checkpoint), rank=2, steps=1, batch_size=2, sample_every=1)
    plan = dataclasses.replace(plan, data=DataOptions(size=32, count=4), preview=PREVIEW)
    if problem:
        with pytest.raises(CheckpointError, match=problem):
            train("train_lora", plan)
        return
    _assert_trained(plan)


def test_a_lora_of_a_text_to_image_network_with_a_tiny_autoencoder(exports: Exports, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(exports.checkpoint("text_to_image"), folder)
    shutil.rmtree(folder / "vae")
    shutil.copytree(exports.checkpoint("tiny_vae") / "vae", folder / "vae")
    plan = plan_of(LoraOptions, tmp_path / "run", str(folder), rank=2, steps=1, batch_size=2, sample_every=1)
    _assert_trained(dataclasses.replace(plan, data=DataOptions(size=32, count=4), preview=PREVIEW))


def _assert_trained(plan: TrainingPlan[Any]) -> None:
    from safetensors.torch import load_file

    observer = Silent()
    file = train("train_lora", plan, observer)
    assert file is not None
    assert max(values.abs().max() for name, values in load_file(file).items() if "lora_B" in name) > 0
    assert observer.pictures[1].width > 0
    (row,) = (json.loads(line) for line in (plan.output / "metrics.jsonl").read_text().splitlines()[:1])
    assert min(row[name] for name in ("data_s", "passes_s", "optimizer_s")) >= 0
    assert row["passes_s"] > 0


def test_equal_trainings_write_equal_files(tmp_path: Path) -> None:
    """The library writes metadata in any order, and peft a set of names in that of the process."""
    from safetensors import safe_open
    from safetensors.torch import save

    from pixrt_export.training.lora import _ordered

    tensors = {"b.lora_A.weight": torch.ones(2, 3), "a.lora_A.weight": torch.zeros(2, dtype=torch.float16)}
    written = set()
    for targets in (["to_q", "to_k"], ["to_k", "to_q"]):
        config = json.dumps({"unet.target_modules": targets, "unet.r": 2})
        for said in (
            {"format": "pt", "lora_adapter_metadata": config},
            {"lora_adapter_metadata": config, "format": "pt"},
        ):
            written.add(_ordered(save(tensors, said)))
    assert len(written) == 1
    (tmp_path / "it.safetensors").write_bytes(written.pop())
    with safe_open(tmp_path / "it.safetensors", "pt") as file:
        assert json.loads(file.metadata()["lora_adapter_metadata"])["unet.target_modules"] == ["to_k", "to_q"]
        assert all(torch.equal(file.get_tensor(name), values) for name, values in tensors.items())
