"""Pictures from captions: the loop without a source is plain guidance, and the check tells the share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exported import Exports
from oracle import noise_of
from pixrt import Editor
from pixrt.errors import OptionError, PixrtError
from pixrt_export.evaluation.gate import Gate
from pixrt_export.evaluation.sheets import samples_sheet
from pixrt_export.evaluation.text_to_image import generate_function, present, sample_captions, samples_facts
from pixrt_export.world.drawing import draw
from pixrt_export.world.instructions import View
from pixrt_export.world.pairs import WorldPairs

CAPTIONS = ["a red circle on a blue background", "a green background with a white star and a black square"]


def perfect(wrong_every: int | None = None) -> Any:
    scenes = {caption: scene for scene, _, caption in map(WorldPairs(20, 3, "held-out", 1.0).draw, range(20))}

    def generate(captions: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        made = [draw(View(scenes[caption]), 64) for caption in captions]
        for number, seed in enumerate(seeds):
            if wrong_every and seed % wrong_every == 0:
                made[number] = 255 - made[number]
        return np.stack(made)

    return generate


def test_a_perfect_generator_and_a_known_mixture() -> None:
    right = present(sample_captions(perfect(), 20, seed=3, batch=7))
    assert right["all"].hits == right["background"].hits == right["all"].count == 20
    mixed = sample_captions(perfect(wrong_every=4), 20, seed=3, batch=7)
    shares = present(mixed)
    assert shares["all"].hits == 15
    assert [sample.right for sample in mixed] == [seed % 4 != 0 for seed in range(3, 23)]
    assert sum(shares[number].count for number in ("1", "2", "3")) == 20
    assert sum(shares[number].hits for number in ("1", "2", "3")) == 15
    facts = samples_facts(mixed)
    assert facts["present"]["all"]["share"] == 0.75
    assert [sample["right"] for sample in facts["samples"]] == [sample.right for sample in mixed]
    assert samples_sheet(mixed).size > (0, 0)
    Gate(0.75).require_share("the share", shares["all"])
    with pytest.raises(PixrtError, match=r"the share is 75.0 % \(15 of 20\), below 80 %"):
        Gate(0.8).require_share("the share", shares["all"])
    with pytest.raises(OptionError):
        sample_captions(perfect(), 0)


@pytest.mark.torch
def test_it_is_classifier_free_guidance_without_a_source(editor: Editor, exports: Exports) -> None:
    """Against diffusers: its DDIM, the same networks in PyTorch, and the textbook formula."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    folder, scale, steps = exports.checkpoint("shapes"), 3.0, 4
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").float().eval()
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae").float().eval()
    encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder").float().eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(steps)
    with torch.no_grad():
        ids = tokenizer([*CAPTIONS, ""], padding="max_length", max_length=77, return_tensors="pt").input_ids
        *texts, null = encoder(ids).last_hidden_state
        latents = torch.from_numpy(noise_of([5, 6], 1, (4, 16, 16))[0]) * scheduler.init_noise_sigma
        for step in scheduler.timesteps:
            nothing = torch.zeros_like(latents)
            noisy = torch.cat([scheduler.scale_model_input(latents, step), nothing], 1)
            with_text = unet(noisy, step, torch.stack(texts)).sample
            without = unet(noisy, step, null.expand(2, -1, -1)).sample
            latents = scheduler.step(without + scale * (with_text - without), step, latents).prev_sample
        decoded = vae.decode(latents / vae.config.scaling_factor).sample
    expected = np.rint((decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255)
    generate = generate_function(editor, {"steps": steps, "guidance_scale": scale, "scheduler": "ddim"})
    made = generate(CAPTIONS, [5, 6]).astype(int)
    assert np.abs(made - expected).max() <= 1


def test_a_picture_does_not_depend_on_its_company(editor: Editor) -> None:
    generate = generate_function(editor, {"steps": 2})
    together = generate(CAPTIONS, [5, 6])
    assert together.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(together[1], generate(CAPTIONS[1:], [6])[0])
    assert not np.array_equal(together[1], generate(CAPTIONS[1:], [7])[0])
    assert generate_function(editor, {"steps": 2, "width": 96})(CAPTIONS[:1], [5]).shape == (1, 64, 96, 3)
