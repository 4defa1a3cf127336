"""Training: what is random, what is kept, what goes wrong, and what is learned."""

import errno
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.errors import OptionError, OutputError, TrainingError
from pixrt_export.training.options import (
    AutoencoderOptions,
    EditTrainingOptions,
    LoopOptions,
    LoraOptions,
    learning_rate,
)
from pixrt_export.training.order import samples_of, seed_of
from pixrt_export.training.plan import TrainingPlan, read_plan
from tiny_training import DATA, LOOP, NETWORKS, PREVIEW, Silent

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch


def plan_of(kind: type[Any], output: Path, checkpoint: str | None = None, **training: Any) -> TrainingPlan[Any]:
    from pixrt_export.training.plan import DataOptions, PreviewOptions

    networks = {} if checkpoint else NETWORKS
    options = kind(**{**LOOP, **training})
    return TrainingPlan(output, checkpoint, networks, DataOptions(**DATA), PreviewOptions(**PREVIEW), options)


def run(stage: str, plan: TrainingPlan[Any], observer: Silent | None = None) -> Path | None:
    from pixrt_export.training.run import run_stage

    return run_stage(stage, plan, observer or Silent())  # type: ignore[arg-type]


def weights_of(model: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {
        f"{path.parent.name}/{name}": tensor
        for path in sorted(model.glob("*/*.safetensors"))
        for name, tensor in load_file(path).items()
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new model after its first stage."""
    trained = run("train_autoencoder", plan_of(AutoencoderOptions, tmp_path_factory.mktemp("autoencoder")))
    assert trained is not None
    return trained


@pytest.fixture(scope="module")
def edited(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model after its second stage, not interrupted."""
    output = tmp_path_factory.mktemp("edit")
    trained = run("train_edit", plan_of(EditTrainingOptions, output, str(model), train_text_encoder=True))
    assert trained is not None
    return trained


class TestOrder:
    @given(st.integers(0, 2**40), st.integers(1, 50), st.integers(0, 500), st.integers(1, 120))
    def test_every_pass_sees_every_sample_once(self, seed: int, count: int, first: int, number: int) -> None:
        whole = samples_of(seed, count, 0, first + number)
        assert samples_of(seed, count, first, number) == whole[first:]
        for start in range(0, len(whole) - count + 1, count):
            assert sorted(whole[start : start + count]) == list(range(count))

    def test_passes_differ(self) -> None:
        order = samples_of(0, 100, 0, 200)
        assert order[:100] != order[100:]

    def test_every_place_has_its_own_seed(self) -> None:
        seeds = Counter(seed_of(7, step, k, process) for step in range(50) for k in range(3) for process in range(3))
        assert len(seeds) == 450
        assert max(seeds) < 2**63


class TestOptions:
    def test_the_learning_rate_rises_and_falls(self) -> None:
        options = LoopOptions(steps=110, warmup_steps=10, learning_rate=1.0, decay="cosine")
        rates = [learning_rate(options, step) for step in range(110)]
        assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
        # Half a cosine, at its quarters.
        assert [rates[10], rates[35], rates[60], rates[85]] == pytest.approx(
            [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4]
        )

    @pytest.mark.parametrize(
        ("kind", "wrong"),
        [
            (LoopOptions, {"steps": 0}),
            (LoopOptions, {"learning_rate": -1.0}),
            (LoopOptions, {"ema_decay": 1.0}),
            (LoopOptions, {"mixed_precision": "int8"}),
            (EditTrainingOptions, {"drop_text": 0.6, "drop_image": 0.6}),
            (LoraOptions, {"rank": 0}),
            (LoraOptions, {"targets": "convolutions"}),
        ],
    )
    def test_what_cannot_be_is_refused(self, kind: type[Any], wrong: dict[str, Any]) -> None:
        with pytest.raises(OptionError, match=next(iter(wrong))):
            kind(**wrong)

    def test_flags_come_before_the_file(self, tmp_path: Path) -> None:
        config = tmp_path / "run.toml"
        config.write_text('checkpoint = "there"\n[training]\nsteps = 7\nlearning_rate = 1\n[data]\nsize = 32\n')
        plan = read_plan(LoraOptions, tmp_path, config=config, data="pairs", flags={"steps": 9})
        assert (plan.training.steps, plan.training.learning_rate, plan.training.rank) == (9, 1, 16)
        assert (plan.data.folder, plan.data.size, plan.checkpoint) == ("pairs", 32, "there")

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("[training]\nstep = 7", "step"),
            ('[training]\nsteps = "7"', "steps"),
            ("[training]\nsteps = true", "steps"),
            ("[model]\n", "model"),
            ("[training", "cannot read"),
            ("[training]\nsteps = 7", "no model to start from"),
        ],
    )
    def test_a_wrong_file_is_refused(self, tmp_path: Path, text: str, problem: str) -> None:
        (tmp_path / "run.toml").write_text(text)
        with pytest.raises(OptionError, match=problem):
            read_plan(LoopOptions, tmp_path, config=tmp_path / "run.toml")


class TestResuming:
    """The same weights, bit for bit, whatever interrupted the run."""

    @pytest.mark.parametrize("stops", [(1, 2, 3, 4, 5), (3,)])
    def test_after_polite_stops(self, model: Path, edited: Path, tmp_path: Path, stops: tuple[int, ...]) -> None:
        plan = plan_of(EditTrainingOptions, tmp_path, str(model), train_text_encoder=True)
        for stop in stops:
            observer = Silent(stop_at=stop)
            assert run("train_edit", plan, observer) is None
            assert observer.saves[-1] == stop
        last = Silent()
        result = run("train_edit", plan, last)
        assert last.first == stops[-1]
        assert result is not None
        self.same(result, edited)

    def test_after_a_failure_between_checkpoints(self, model: Path, edited: Path, tmp_path: Path) -> None:
        class Failing(Silent):
            def stepped(self, report: Any) -> None:
                super().stepped(report)
                if report.step == 5:
                    raise KeyboardInterrupt

        plan = plan_of(EditTrainingOptions, tmp_path, str(model), train_text_encoder=True)
        with pytest.raises(KeyboardInterrupt):
            run("train_edit", plan, Failing())
        last = Silent()
        result = run("train_edit", plan, last)
        assert last.first == 4  # the newest checkpoint: every second step
        assert result is not None
        self.same(result, edited)
        rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert len(rows) == 6

    @staticmethod
    def same(result: Path, expected: Path) -> None:
        left, right = weights_of(result), weights_of(expected)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)

    def test_the_new_model_follows_from_the_seed(self, model: Path, tmp_path: Path) -> None:
        again = run("train_autoencoder", plan_of(AutoencoderOptions, tmp_path / "same"))
        other = run("train_autoencoder", plan_of(AutoencoderOptions, tmp_path / "other", seed=1))
        assert again is not None
        assert other is not None
        self.same(again, model)
        assert not all(
            torch.equal(a, b) for a, b in zip(weights_of(other).values(), weights_of(model).values(), strict=True)
        )

    def test_other_options_are_refused(self, model: Path, tmp_path: Path) -> None:
        run("train_edit", plan_of(EditTrainingOptions, tmp_path, str(model)), Silent(stop_at=1))
        with pytest.raises(TrainingError, match=r"learning_rate = 0\.001, now it is 0\.5"):
            run("train_edit", plan_of(EditTrainingOptions, tmp_path, str(model), learning_rate=0.5))
        # How long it goes on is free.
        assert run("train_edit", plan_of(EditTrainingOptions, tmp_path, str(model), steps=2)) is not None

    def test_one_run_at_a_time(self, model: Path, tmp_path: Path) -> None:
        class Second(Silent):
            def stepped(self, report: Any) -> None:
                with pytest.raises(TrainingError, match="another process trains"):
                    run("train_edit", plan)
                super().stepped(report)

        plan = plan_of(EditTrainingOptions, tmp_path, str(model), steps=1)
        assert run("train_edit", plan, Second()) is not None

    def test_a_damaged_checkpoint_is_named(self, model: Path, tmp_path: Path) -> None:
        plan = plan_of(EditTrainingOptions, tmp_path, str(model))
        run("train_edit", plan, Silent(stop_at=2))
        (tmp_path / "checkpoints" / "step-00000002" / "weights.safetensors").write_bytes(b"\0" * 100)
        with pytest.raises(TrainingError, match="step-00000002 cannot be read"):
            run("train_edit", plan)


class TestFailures:
    def test_a_loss_that_is_not_finite(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from pixrt_export.training.edit import EditJob

        whole = EditJob.loss
        calls = iter([1.0, 1.0, 1.0, math.nan])
        monkeypatch.setattr(EditJob, "loss", lambda *arguments: whole(*arguments) * next(calls))
        with pytest.raises(TrainingError, match="loss of step 4 is nan"):
            run("train_edit", plan_of(EditTrainingOptions, tmp_path, str(model)))
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]

    def test_no_memory(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from pixrt_export.training.edit import EditJob

        def loss(*_: Any) -> Any:
            torch.empty(2**60)

        monkeypatch.setattr(EditJob, "loss", loss)
        with pytest.raises(TrainingError, match="no memory for batch_size 4"):
            run("train_edit", plan_of(EditTrainingOptions, tmp_path, str(model)))

    def test_a_full_disk(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from pixrt_export.training import state

        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        plan = plan_of(EditTrainingOptions, tmp_path, str(model))
        run("train_edit", plan, Silent(stop_at=3))
        monkeypatch.setattr(state, "save_file", full)
        with pytest.raises(OutputError, match=r"step 4 to .*No space left"):
            run("train_edit", plan)
        kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
        assert kept == ["step-00000002", "step-00000003"]

    @pytest.mark.skipif(torch.cuda.is_available(), reason="FP16 is for GPUs")
    def test_fp16_without_a_gpu(self, model: Path, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match="mixed_precision is fp16"):
            run("train_edit", plan_of(EditTrainingOptions, tmp_path, str(model), mixed_precision="fp16"))

    def test_a_broken_picture_is_named(self, model: Path, tmp_path: Path) -> None:
        from dataclasses import replace

        from pixrt.errors import PictureError
        from pixrt_export.data.writing import write_pairs
        from pixrt_export.world.pairs import WorldPairs

        write_pairs(WorldPairs(8), tmp_path / "pairs", size=32, on_progress=lambda *_: None)
        broken = sorted((tmp_path / "pairs").rglob("*.png"))[5]
        broken.write_bytes(broken.read_bytes()[:100])
        plan = plan_of(EditTrainingOptions, tmp_path / "run", str(model))
        with pytest.raises(PictureError, match=broken.name):
            run("train_edit", replace(plan, data=replace(plan.data, folder=str(tmp_path / "pairs"))))

    def test_an_inpainting_model_is_refused(self, model: Path, tmp_path: Path) -> None:
        import shutil

        from diffusers import UNet2DConditionModel

        from pixrt.errors import CheckpointError

        shutil.copytree(model, tmp_path / "inpaint")
        UNet2DConditionModel(**{**NETWORKS["unet"], "in_channels": 9}).save_pretrained(tmp_path / "inpaint" / "unet")
        with pytest.raises(CheckpointError, match="9 input channels"):
            run("train_edit", plan_of(EditTrainingOptions, tmp_path / "run", str(tmp_path / "inpaint")))


class TestWhatIsLearned:
    def test_the_widened_unet_is_the_same_network_at_first(self) -> None:
        from diffusers import UNet2DConditionModel

        from pixrt_export.training.networks import widened

        narrow = UNet2DConditionModel(**{**NETWORKS["unet"], "in_channels": 4}).eval()
        wide = widened(narrow).eval()
        sample, source, text = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.randn(2, 77, 16)
        with torch.no_grad():
            expected = narrow(sample, 500, text).sample
            assert torch.equal(wide(torch.cat([sample, 0 * source], 1), 500, text).sample, expected)
            assert torch.allclose(wide(torch.cat([sample, source], 1), 500, text).sample, expected, atol=1e-6)
        assert wide.config["in_channels"] == 8

    def test_shares_of_dropped_conditions(self) -> None:
        """5 % text alone, 5 % image alone, 5 % both, of draws that stand evenly."""
        from pixrt_export.training.edit import EditJob

        job = object.__new__(EditJob)
        job.options = EditTrainingOptions()
        no_text, no_source = (np.array(lost) for lost in job.dropped((torch.arange(2000) + 0.5) / 2000))
        counts = [(no_text & ~no_source).sum(), (~no_text & no_source).sum(), (no_text & no_source).sum()]
        assert counts == [100, 100, 100]

    @pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
    def test_the_loss_is_that_of_the_papers(self, model: Path, prediction: str) -> None:
        """Against v and epsilon written out (arXiv:2202.00512, equation 9), with a network that predicts zero."""
        from diffusers import DDPMScheduler

        from pixrt_export.training.edit import EditBatch, EditJob

        config = {**NETWORKS["scheduler"], "prediction_type": prediction}
        job = object.__new__(EditJob)
        job.prior = None
        job.scheduler, job.null = DDPMScheduler.from_config(config), torch.zeros(77, dtype=torch.int64)
        job.options = EditTrainingOptions(drop_text=0, drop_image=0, drop_both=0)
        seen: list[Any] = []

        class Zero(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(()))

            def forward(self, sample: Any, timesteps: Any, ids: Any) -> Any:
                seen.extend((sample, timesteps, ids))
                return sample[:, :4] * self.weight

        source, target, ids = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.ones(3, 77, dtype=torch.int64)
        loss = job.loss(Zero(), EditBatch(source, target, ids), torch.Generator().manual_seed(3))
        noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(3))
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        alphas = torch.tensor(np.cumprod(1 - betas)[seen[1].numpy()], dtype=torch.float32)[:, None, None, None]
        noisy = alphas.sqrt() * target + (1 - alphas).sqrt() * noise
        wanted = noise if prediction == "epsilon" else alphas.sqrt() * noise - (1 - alphas).sqrt() * target
        assert torch.allclose(seen[0], torch.cat([noisy, source], 1), atol=1e-4)
        assert torch.equal(seen[2], ids)
        assert float(loss.detach()) == pytest.approx(float(wanted.square().mean()), rel=1e-5)

    def test_an_autoencoder_learns(self, tmp_path: Path) -> None:
        observer = Silent()
        plan = plan_of(AutoencoderOptions, tmp_path, steps=60, learning_rate=5e-3, sample_every=60, checkpoint_every=60)
        assert run("train_autoencoder", plan, observer) is not None
        losses = list(observer.losses.values())
        assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
        assert observer.pictures[60].size == (12 * 32, 2 * 32)
        assert {"training.png", "metrics.jsonl", "plan.json"} <= {path.name for path in tmp_path.iterdir()}

    def test_the_scaling_factor_makes_latents_of_unit_variance(self, model: Path) -> None:
        from pixrt_export.checkpoint import open_checkpoint
        from pixrt_export.training.pictures import to_tensor
        from pixrt_export.world.pairs import WorldPairs

        checkpoint = open_checkpoint(str(model))
        pairs = WorldPairs(48, captions=0.2)
        pictures = np.stack([pairs.load(index, 32).target for index in range(48)])
        with torch.no_grad():
            latents = checkpoint.load("vae").encode(to_tensor(pictures)).latent_dist.mean
        assert float(latents.std()) * checkpoint.scaling_factor == pytest.approx(1, rel=1e-4)

    def test_latents_are_computed_once(self, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from pixrt_export.checkpoint import open_checkpoint
        from pixrt_export.training import latents
        from pixrt_export.training.pictures import to_tensor
        from pixrt_export.world.pairs import WorldPairs

        monkeypatch.setattr(latents, "PART", 10)
        vae, pairs, progress = open_checkpoint(str(model)).load("vae"), WorldPairs(25, captions=0.5), []
        kept = latents.cached_latents(vae, pairs, 32, tmp_path, lambda *done: progress.append(done))
        assert progress == [(10, 25), (20, 25), (25, 25)]
        for index in (0, 13, 24):
            pair = pairs.load(index, 32)
            both = kept[[index]][0]
            with torch.no_grad():
                expected = vae.encode(to_tensor(pair.target[None])).latent_dist.mean[0].numpy()
            assert np.allclose(both[1], expected, rtol=2e-3, atol=2e-3)  # FP16 on disk
            assert (pair.source is None) == (not both[0].any())
        monkeypatch.setattr(vae, "encode", None)  # would fail if it were used
        latents.cached_latents(vae, pairs, 32, tmp_path, lambda *_: None)

    def test_a_preview_of_the_world_measures_edit_accuracy(self, model: Path, tmp_path: Path) -> None:
        observer = Silent()
        run("train_edit", plan_of(EditTrainingOptions, tmp_path, str(model), steps=2, sample_every=2), observer)
        assert 0 <= observer.metrics[2]["edit_accuracy"] <= 1
        assert (tmp_path / "samples" / "step-00000002.png").is_file()
        assert "edit_accuracy" in (tmp_path / "metrics.jsonl").read_text()


def test_the_prior_holds_a_lora_to_what_was_there(edited: Path, tmp_path: Path) -> None:
    """With nothing but the prior there is nothing to learn: loss 0, and the adapters stay without effect."""
    (tmp_path / "prior.txt").write_text("make it darker\n\nremove the circle\n")
    observer = Silent()
    options = {"rank": 4, "prior": str(tmp_path / "prior.txt"), "prior_share": 1 - 1e-9, "weight_decay": 0.0}
    file = run("train_lora", plan_of(LoraOptions, tmp_path / "run", str(edited), **options), observer)
    assert file is not None
    assert max(observer.losses.values()) == 0
    plan = plan_of(LoraOptions, tmp_path / "other", str(edited), **{**options, "prior": str(tmp_path / "none.txt")})
    with pytest.raises(OptionError, match=r"none\.txt cannot be read"):
        run("train_lora", plan)


def test_a_lora_in_diffusers_is_the_network_that_was_trained(edited: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    from pixrt_export.training import lora, stages

    trained: list[Any] = []
    save = lora.save_lora

    def keep(network: Any, folder: Path) -> Path:
        trained.append(network)
        return save(network, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "save_lora", keep)
        plan = plan_of(LoraOptions, tmp_path, str(edited), rank=4, alpha=8, learning_rate=1e-2, train_text_encoder=True)
        file = run("train_lora", plan)
    assert file == tmp_path / "pytorch_lora_weights.safetensors"
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(edited)
    ids = torch.arange(77)[None]
    sample = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        before = pipeline.unet(sample, 500, pipeline.text_encoder(ids)[0]).sample
        pipeline.load_lora_weights(file)
        after = pipeline.unet(sample, 500, pipeline.text_encoder(ids)[0]).sample
        expected = trained[0](sample, torch.tensor([500]), ids)
    assert torch.allclose(after, expected, atol=1e-6)
    assert not torch.allclose(after, before, atol=1e-4)
