"""Training on photographs: what the options for it change, and what they leave alone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pixrt.errors import OptionError
from pixrt_export.training.options import AutoencoderOptions, EditTrainingOptions
from pixrt_export.training.plan import DataOptions
from tiny_training import NETWORKS, Silent, plan_of, train, weights_of

torch = pytest.importorskip("torch")
pytest.importorskip("skimage")

pytestmark = pytest.mark.torch
PHOTOS = DataOptions(world="photo", size=32, count=24)


def test_photographs_are_learned_and_judged_on_held_out_ones(first_stage: Path, tmp_path: Path) -> None:
    plan = plan_of(EditTrainingOptions, tmp_path, str(first_stage), steps=2, sample_every=2)
    observer = Silent()
    assert train("train_edit", dataclasses.replace(plan, data=PHOTOS), observer) is not None
    assert observer.metrics[2].keys() == {"edit_accuracy"}
    held_out = PHOTOS.held_out(3)
    assert held_out is not None
    assert held_out.is_right(1, held_out.load(1, 32).target)
    assert "train" in PHOTOS.open().fingerprint()


def test_the_decoder_alone(first_stage: Path, tmp_path: Path) -> None:
    """Everything that makes latents, and their scale, stays as it is."""
    from pixrt_export.opening import open_checkpoint

    plan = plan_of(AutoencoderOptions, tmp_path, str(first_stage), decoder_only=True, sources=0.5, edges=0.2)
    model = train("train_autoencoder", dataclasses.replace(plan, data=PHOTOS))
    assert model is not None
    before, after = weights_of(first_stage), weights_of(model)
    assert before.keys() == after.keys()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith(("vae/decoder.", "vae/post_quant_conv.")) for name in changed)
    assert open_checkpoint(str(model)).scaling_factor == open_checkpoint(str(first_stage)).scaling_factor


def test_a_tiny_autoencoder_from_nothing_to_an_edit(tmp_path: Path) -> None:
    """TAESD's class, halving the sides: its latents' scale is written down, and diffusers opens what is made."""
    import diffusers

    from pixrt_export.opening import open_checkpoint

    vae = {"_class_name": "AutoencoderTiny", "latent_channels": 4}
    vae |= {"encoder_block_out_channels": [8, 8], "decoder_block_out_channels": [8, 8]}
    vae |= {"num_encoder_blocks": [1, 1], "num_decoder_blocks": [1, 1]}
    unet = NETWORKS["unet"] | {"addition_embed_type": "text", "addition_embed_type_num_heads": 4}
    plan = plan_of(AutoencoderOptions, tmp_path / "first", sample_every=3)
    plan = dataclasses.replace(plan, networks=NETWORKS | {"vae": vae, "unet": unet}, data=PHOTOS)
    first = train("train_autoencoder", plan)
    assert first is not None
    pictures = np.stack([PHOTOS.open().load(k, 32).target for k in range(24)])
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
    trained = diffusers.AutoencoderTiny.from_pretrained(first / "vae")
    with torch.no_grad():
        latents = trained.encode(tensor).latents
    assert latents.shape == (24, 4, 16, 16)
    assert open_checkpoint(str(first)).scaling_factor == pytest.approx(float(1 / latents.std()), rel=1e-4)

    plan = plan_of(EditTrainingOptions, tmp_path / "second", str(first), steps=2, sample_every=2)
    second = train("train_edit", dataclasses.replace(plan, data=PHOTOS))
    assert second is not None
    before, after = weights_of(first), weights_of(second)
    changed = {name for name, values in after.items() if not torch.equal(values, before[name])}
    assert any(name.startswith("unet/add_embedding.") for name in changed)
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(second)
    assert isinstance(pipeline.vae, diffusers.AutoencoderTiny)


@pytest.mark.parametrize(
    "wrong",
    [
        {"often": "fog"},
        {"often": "fog", "world": "photo", "kind": "rain"},
        {"often": "fog", "world": "photo", "folder": "pairs"},
        {"often": "fog, mist", "world": "photo"},
    ],
)
def test_kinds_that_cannot_be_drawn_often(wrong: dict[str, str]) -> None:
    with pytest.raises(OptionError, match="often"):
        DataOptions(**wrong)  # type: ignore[arg-type]
    assert DataOptions(world="photo", often="fog, rain,").kinds_often == ("fog", "rain")


def test_an_unknown_class_of_autoencoder(tmp_path: Path) -> None:
    plan = plan_of(AutoencoderOptions, tmp_path)
    networks = NETWORKS | {"vae": {"_class_name": "VQModel"}}
    with pytest.raises(OptionError, match="_class_name of vae is VQModel"):
        train("train_autoencoder", dataclasses.replace(plan, networks=networks))


def test_a_share_of_the_samples_gives_its_source() -> None:
    from pixrt_export.training.autoencoder import AutoencoderJob

    job = object.__new__(AutoencoderJob)
    job.pairs, job.size, job.options = PHOTOS.open(), 32, AutoencoderOptions(sources=0.02)
    pair = job.pairs.load(1, 32)
    assert pair.source is not None
    expected = [job.pairs.load(0, 32).source, pair.source, job.pairs.load(2, 32).target]
    pictures = ((job.load([0, 1, 2]).permute(0, 2, 3, 1) + 1) * 127.5).round().numpy()
    assert np.array_equal(pictures, np.stack(expected))


def test_the_error_at_edges() -> None:
    """A step that is reconstructed half as high, its differences written out."""
    from pixrt_export.training.autoencoder import AutoencoderJob

    picture = torch.zeros(1, 3, 8, 8)
    picture[..., 4:] = 1
    mean = torch.zeros(1, 4, 2, 2)

    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, pictures: object, noise: object) -> tuple[object, object, object]:
            return picture / 2, mean, mean

    losses = []
    for edges in (0.0, 1.0):
        job = object.__new__(AutoencoderJob)
        job.latent_shape, job.options = (4, 2, 2), AutoencoderOptions(edges=edges, latent_decay=0)
        losses.append(float(job.loss(Half(), picture, torch.Generator().manual_seed(0))))
    assert losses[1] - losses[0] == pytest.approx(0.5 / 7)  # one of the seven differences in every row


def test_embeddings_of_unseen_tokens_are_zero(first_stage: Path, tmp_path: Path) -> None:
    from pixrt.bundles.tokenizer import Tokenizer
    from pixrt_export.opening import open_checkpoint

    plan = plan_of(EditTrainingOptions, tmp_path, str(first_stage), steps=1, zero_unseen=True)
    model = train("train_edit", dataclasses.replace(plan, data=PHOTOS))
    assert model is not None
    table = open_checkpoint(str(model)).load("text_encoder").get_input_embeddings().weight
    start = open_checkpoint(str(first_stage))
    tokenizer, pairs = Tokenizer(start.folder / "tokenizer", start.tokenizer()), PHOTOS.open()
    seen = {token for index in range(24) for token in tokenizer.encode(pairs.instruction(index)).ids}
    assert {int(row) for row in table.abs().sum(dim=1).nonzero()} == seen
    before = start.load("text_encoder").get_input_embeddings().weight
    assert torch.equal(table[sorted(seen)], before[sorted(seen)])  # it was not trained
