"""Weighted and long texts against compel, with the same text encoder in PyTorch."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from checkpoints import DATA
from pixrt import Editor
from pixrt.core.timing import Stopwatch
from pixrt.tasks.prompts import read_prompt, read_weights
from shapes import pixels

pytestmark = pytest.mark.torch

LONG = "make the (circle:1.4) red and the background blue, " * 12
TEXTS = [
    "make the circle red",
    "make the (circle:1.3) red",
    "make the (circle red:0.4)",
    "(make:0) the (circle:1.7) (red:0.5) and the background (blue:1.1)",
    "(make it darker:0.6)",
    "make the (circle:1.4) " + "very " * 90 + "red",
    LONG,
    "word " * 80 + "(end:0.5)",
]


@pytest.fixture(scope="module")
def text_encoder() -> Any:
    from transformers import CLIPTextModel

    return CLIPTextModel.from_pretrained(DATA / "shapes_checkpoint" / "text_encoder").eval().float()


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_embeddings_are_those_of_compel(editor: Editor, text_encoder: Any, text: str, long: bool) -> None:
    provider_module = pytest.importorskip("compel.embeddings_provider")
    import torch
    from transformers import CLIPTokenizer

    provider = provider_module.EmbeddingsProvider(
        CLIPTokenizer.from_pretrained(DATA / "shapes_checkpoint" / "tokenizer"),
        text_encoder,
        truncate=not long,
        downweight_mode=provider_module.DownweightMode.REMOVE,
        split_long_text_mode=provider_module.SplitLongTextMode.BRUTAL,  # in 75s, as A1111 does
    )
    words, weights = zip(*read_weights(text), strict=True)
    with torch.no_grad():
        expected = provider.get_embeddings_for_weighted_prompt_fragments([list(words)], [list(weights)])[0].numpy()
    prompt = read_prompt(text, editor._tokenizer, weighting=True, long=long)
    found = editor._networks.encoders.text(prompt, Stopwatch())
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_the_network_sees_all_of_a_long_text(editor: Editor) -> None:
    """The UNet on 154 rows of text, against the same in PyTorch."""
    import torch
    from diffusers import UNet2DConditionModel

    from pixrt.bundles.manifest import Component

    draw = np.random.default_rng(0)
    sample, text = draw.standard_normal((1, 8, 8, 8), np.float32), draw.standard_normal((1, 154, 128), np.float32)
    unet = UNet2DConditionModel.from_pretrained(DATA / "shapes_checkpoint" / "unet").eval().float()
    with torch.no_grad():
        expected = unet(torch.tensor(sample), 500.0, torch.tensor(text)).sample.numpy()
    engine, found = editor._networks._engines.get(Component.UNET, Stopwatch()), np.zeros((1, 4, 8, 8), np.float32)
    given = {"sample": sample, "timestep": np.array([500.0], np.float32), "encoder_hidden_states": text}
    engine.bind(given | {"out_sample": found})()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_weights_and_length_change_an_edit_and_nothing_else(editor: Editor, scene: Image.Image) -> None:
    def made(text: str, **parameters: Any) -> np.ndarray[Any, Any]:
        return pixels(editor.edit(scene, text, steps=2, seed=5, **parameters).image)

    plain = made("make the circle red")
    assert (made("make the (circle:1) red") == plain).all()
    assert (made("make the (circle:1.5) red") != plain).any()
    assert (made("make the circle red", long_prompts=True) == plain).all()
    assert (made("make the circle red", weighting=False) == plain).all()
    assert (made(LONG, long_prompts=True) != made(LONG)).any()
    # Pictures of both lengths in one call, each as it is alone.
    first, second = editor.edit(scene, ["make the circle red", LONG], steps=2, seed=5, long_prompts=True)
    assert (pixels(first.image) == plain).all()
    assert (pixels(second.image) == made(LONG, long_prompts=True)).all()
    assert second.dropped_tokens == 0
