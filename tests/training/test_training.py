"""What a training run learns: its losses against the papers, its latents, its LoRA in diffusers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixrt.errors import OptionError
from pixrt_export.training.options import AutoencoderOptions, EditTrainingOptions, LoraOptions
from pixrt_export.world.pairs import WorldPairs
from tiny_training import NETWORKS, Silent, plan_of, train

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.torch


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
    def test_the_loss_is_that_of_the_papers(self, first_stage: Path, prediction: str) -> None:
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

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_a_share_of_the_samples_is_at_the_last_timestep(self, share: float) -> None:
        from diffusers import DDPMScheduler

        from pixrt_export.training.edit import EditBatch, EditJob

        job = object.__new__(EditJob)
        job.prior, job.options = None, EditTrainingOptions(last_timestep=share)
        job.scheduler, job.null = DDPMScheduler.from_config(NETWORKS["scheduler"]), torch.zeros(1, dtype=torch.int64)
        seen: list[Any] = []

        class Watching(torch.nn.Linear):
            def forward(self, sample: Any, timesteps: Any, ids: Any) -> Any:
                seen.append(timesteps)
                return sample[:, :1]

        batch = EditBatch(
            torch.zeros(1000, 1, 1, 1), torch.zeros(1000, 1, 1, 1), torch.zeros(1000, 1, dtype=torch.int64)
        )
        job.loss(Watching(1, 1), batch, torch.Generator().manual_seed(0))
        # 1,000 draws: five standard deviations of a binomial are 0.08; of the others one in 1,000 is there by chance.
        assert float((seen[0] == 999).float().mean()) == pytest.approx(share, abs=0 if share == 1 else 0.08)
        assert len(seen[0].unique()) > (1 if share == 1 else 300) - 1

    def test_an_autoencoder_learns(self, tmp_path: Path) -> None:
        observer = Silent()
        plan = plan_of(AutoencoderOptions, tmp_path, steps=60, learning_rate=5e-3, sample_every=60, checkpoint_every=60)
        assert train("train_autoencoder", plan, observer) is not None
        losses = list(observer.losses.values())
        assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
        assert observer.pictures[60].size == (12 * 32, 2 * 32)
        assert {"training.png", "metrics.jsonl", "plan.json"} <= {path.name for path in tmp_path.iterdir()}

    def test_the_scaling_factor_makes_latents_of_unit_variance(self, first_stage: Path) -> None:
        from pixrt_export.opening import open_checkpoint
        from pixrt_export.training.pictures import to_tensor
        from pixrt_export.world.pairs import WorldPairs

        checkpoint = open_checkpoint(str(first_stage))
        pairs = WorldPairs(48, captions=0.2)
        pictures = np.stack([pairs.load(index, 32).target for index in range(48)])
        with torch.no_grad():
            latents = checkpoint.load("vae").encode(to_tensor(pictures)).latent_dist.mean
        assert float(latents.std()) * checkpoint.scaling_factor == pytest.approx(1, rel=1e-4)

    def test_latents_are_computed_once(
        self, first_stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from pixrt_export.opening import open_checkpoint
        from pixrt_export.training import latents
        from pixrt_export.training.pictures import to_tensor
        from pixrt_export.world.pairs import WorldPairs

        monkeypatch.setattr(latents, "PART", 10)
        vae, pairs, progress = open_checkpoint(str(first_stage)).load("vae"), WorldPairs(25, captions=0.5), []
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

    def test_a_preview_of_the_world_measures_edit_accuracy(self, first_stage: Path, tmp_path: Path) -> None:
        observer = Silent()
        train("train_edit", plan_of(EditTrainingOptions, tmp_path, str(first_stage), steps=2, sample_every=2), observer)
        assert 0 <= observer.metrics[2]["edit_accuracy"] <= 1
        assert (tmp_path / "samples" / "step-00000002.png").is_file()
        assert "edit_accuracy" in (tmp_path / "metrics.jsonl").read_text()


def test_a_model_names_no_folder_of_the_machine(second_stage: Path) -> None:
    for path in second_stage.rglob("*.json"):
        assert "_name_or_path" not in path.read_text("utf-8"), path


def test_a_model_says_what_it_was_taught(first_stage: Path, second_stage: Path, tmp_path: Path) -> None:
    """Training its autoencoder again leaves that as it is."""
    from pixrt_export.opening import open_checkpoint

    known = WorldPairs(1).known()
    assert open_checkpoint(str(first_stage)).instructions == {}
    assert open_checkpoint(str(second_stage)).instructions == known
    plan = plan_of(AutoencoderOptions, tmp_path / "decoder", str(second_stage), steps=2, decoder_only=True)
    model = train("train_autoencoder", plan)
    assert model is not None
    assert open_checkpoint(str(model)).instructions == known


def test_the_prior_holds_a_lora_to_what_was_there(second_stage: Path, tmp_path: Path) -> None:
    """With nothing but the prior there is nothing to learn: loss 0, and the adapters stay without effect."""
    (tmp_path / "prior.txt").write_text("make it darker\n\nremove the circle\n")
    observer = Silent()
    options = {"rank": 4, "prior": str(tmp_path / "prior.txt"), "prior_share": 1 - 1e-9, "weight_decay": 0.0}
    file = train("train_lora", plan_of(LoraOptions, tmp_path / "run", str(second_stage), **options), observer)
    assert file is not None
    assert max(observer.losses.values()) == 0
    plan = plan_of(
        LoraOptions, tmp_path / "other", str(second_stage), **{**options, "prior": str(tmp_path / "none.txt")}
    )
    with pytest.raises(OptionError, match=r"none\.txt cannot be read"):
        train("train_lora", plan)


def test_a_lora_in_diffusers_is_the_network_that_was_trained(second_stage: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionInstructPix2PixPipeline

    from pixrt_export.training import lora, stages

    trained: list[Any] = []
    save = lora.save_lora

    def keep(network: Any, folder: Path) -> Path:
        trained.append(network)
        return save(network, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "save_lora", keep)
        plan = plan_of(
            LoraOptions, tmp_path, str(second_stage), rank=4, alpha=8, learning_rate=1e-2, train_text_encoder=True
        )
        file = train("train_lora", plan)
    assert file == tmp_path / "pytorch_lora_weights.safetensors"
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(second_stage)
    ids = torch.arange(77)[None]
    sample = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        before = pipeline.unet(sample, 500, pipeline.text_encoder(ids)[0]).sample
        pipeline.load_lora_weights(file)
        after = pipeline.unet(sample, 500, pipeline.text_encoder(ids)[0]).sample
        expected = trained[0](sample, torch.tensor([500]), ids)
    assert torch.allclose(after, expected, atol=1e-6)
    assert not torch.allclose(after, before, atol=1e-4)
