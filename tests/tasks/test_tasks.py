"""What every task takes, refuses and leaves alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exported import Exports
from pixrt import Editor, OptionError, PictureError
from shapes import BLUE, SCENE, pixels

GREEN = SCENE.with_name("scene-green.png")
CALLS: dict[str, Callable[..., Any]] = {
    "edit": lambda editor, **more: editor.edit(SCENE, BLUE, **more),
    "generate": lambda editor, **more: editor.generate("a red circle", **more),
    "img2img": lambda editor, **more: editor.img2img(SCENE, "a red circle", **more),
    "inpaint": lambda editor, **more: editor.inpaint(SCENE, half(), "a red circle", **more),
    "style": lambda editor, **more: editor.style(SCENE, GREEN, **more),
}


def half(width: int = 64, height: int = 64) -> np.ndarray[Any, Any]:
    """A mask: the left half may change."""
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = True
    return mask


@pytest.fixture(scope="module")
def null() -> Editor:
    """The bundle `shapes` without networks: what is decoded is grey."""
    return Editor("shapes", backend="null")


class TestWhatFits:
    @pytest.mark.torch
    @pytest.mark.parametrize(
        ("kind", "fitting"),
        [
            ("sd1", {"edit", "generate", "img2img", "inpaint", "style"}),
            ("text_to_image", {"generate", "img2img", "inpaint", "style"}),
            ("inpainting", {"inpaint"}),
        ],
    )
    def test_a_bundle_that_does_not_fit_is_told_what_would(
        self, exports: Exports, kind: str, fitting: set[str]
    ) -> None:
        with Editor(exports.bundle(kind, "fp32"), backend="null") as editor:
            for name, call in CALLS.items():
                if name in fitting:
                    assert call(editor, steps=2)
                    continue
                with pytest.raises(OptionError, match=rf"cannot {name}: its network") as caught:
                    call(editor, steps=2)
                assert "input channels" in caught.value.remedy

    @pytest.mark.parametrize("task", CALLS)
    def test_the_built_in_bundle_does_every_task(self, null: Editor, task: str) -> None:
        assert CALLS[task](null, steps=2)

    @pytest.mark.parametrize(
        ("task", "wrong", "named", "option"),
        [
            ("edit", {"mask_blur": 3}, "there is no mask", "mask_blur"),
            ("edit", {"mask_padding": 0}, "there is no mask", "mask_padding"),
            ("edit", {"mask": half(), "resize": "fit"}, "resize is fit", "resize"),
            ("edit", {"resize": "floor8", "resolution": 64}, "resize is floor8", "resolution"),
            ("edit", {"eta": 0.5, "scheduler": "euler"}, "eta is 0.5", "eta"),
            ("edit", {"preset": "lcm"}, "preset lcm", "preset"),
            ("edit", {"steps": 60, "scheduler": "lcm"}, "steps is 60", "steps"),
            ("edit", {"negative_prompt": "x" * 70_000}, "bytes together", "text"),
            ("generate", {"width": 65}, "65 x 64", "width"),
            ("generate", {"height": 66}, "64 x 66", "height"),
            ("generate", {"height": 2400, "width": 2400}, "5.8 megapixels", "width"),
            ("style", {"strength": 0.0}, "leaves none of 20 steps", "strength"),
            ("style", {"style_weight": 1.5}, "style_weight", "style_weight"),
        ],
    )
    def test_parameters_that_do_not_fit(
        self, null: Editor, task: str, wrong: dict[str, Any], named: str, option: str
    ) -> None:
        with pytest.raises((OptionError, PictureError), match=named) as caught:
            CALLS[task](null, **wrong)
        assert caught.value.option == option

    @pytest.mark.parametrize(
        "mask", [half(32, 64), np.zeros((64, 64), bool), "not there.png", half().astype(float) * 2]
    )
    def test_masks_that_cannot_be_used(self, null: Editor, mask: Any) -> None:
        with pytest.raises(PictureError):
            null.edit(SCENE, BLUE, mask=mask)

    @pytest.mark.torch
    def test_guidance_by_a_picture_that_is_not_seen(self, exports: Exports) -> None:
        with Editor(exports.bundle("text_to_image", "fp32"), backend="null") as editor:
            assert editor.style(SCENE, GREEN, steps=4).network_rows == 2 * 2  # two branches, 0.6 of 4 steps
            with pytest.raises(OptionError, match="does not see the picture"):
                editor.style(SCENE, GREEN, image_guidance_scale=2.0)


class TestMasks:
    @settings(max_examples=40)
    @given(st.data())
    def test_outside_nothing_changes(self, null: Editor, data: st.DataObject) -> None:
        """Bit for bit, for any picture, mask, blur, padding and working resolution."""
        width, height = data.draw(st.integers(17, 90)), data.draw(st.integers(17, 90))
        draw = np.random.default_rng(data.draw(st.integers(0, 1000)))
        channels = data.draw(st.sampled_from([3, 4]))
        picture = draw.integers(0, 256, (height, width, channels), np.uint8)
        mask = np.zeros((height, width), bool)
        left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        mask[top : top + data.draw(st.integers(1, 60)), left : left + data.draw(st.integers(1, 60))] = True
        result = null.edit(
            picture,
            BLUE,
            mask=mask,
            steps=1,
            mask_blur=data.draw(st.sampled_from([None, 0, 1, 9])),
            mask_padding=data.draw(st.sampled_from([None, 0, 5, 100])),
            resolution=data.draw(st.sampled_from([None, 32, 48])),
        )
        made = np.asarray(result.image)
        assert made.shape == picture.shape
        np.testing.assert_array_equal(made[~mask], picture[~mask])
        grey = np.abs(made[mask][:, :3].astype(int) - 127.5) <= 0.5
        assert grey.all(axis=1).any() or result.options.mask_blur  # type: ignore[attr-defined]

    def test_with_the_built_in_model(self, editor: Editor, scene: Image.Image) -> None:
        """The instruction is carried out inside the mask, where all of the picture would follow without one."""
        result = editor.edit(scene, BLUE, mask=half(), seed=7)
        before, after = pixels(scene), pixels(result.image)
        np.testing.assert_array_equal(after[:, 32:], before[:, 32:])
        red, _, blue = after[50:62, 4:24].mean((0, 1))  # background on the left
        assert blue > 150 > 100 > red
        free = editor.edit(scene, BLUE, seed=7)
        assert (pixels(free.image)[:, 32:] != before[:, 32:]).mean() > 0.9

    def test_steps_keep_what_is_outside(self, editor: Editor, scene: Image.Image) -> None:
        """The loop holds the known latents, and does not only paste at the end: the last state's are the source's."""
        seen: list[Any] = []
        editor.edit(scene, BLUE, mask=half(), steps=4, seed=1, on_step=lambda info: seen.append(info.latents))
        other: list[Any] = []
        editor.edit(scene, "make it darker", mask=half(), steps=4, seed=2, on_step=lambda i: other.append(i.latents))
        np.testing.assert_array_equal(seen[-1][..., 8:], other[-1][..., 8:])
        assert not np.allclose(seen[-1][..., :8], other[-1][..., :8], atol=0.1)

    def test_a_call_with_other_masks_and_without(self, editor: Editor, scene: Image.Image) -> None:
        masks, texts = [half(), None, ~half()], [BLUE, "invert the colors", "make it darker"]
        together = editor.edit(scene, texts, mask=masks, steps=3, seed=[1, 2, 3])
        for index, text in enumerate(texts):
            alone = editor.edit(scene, text, mask=masks[index], steps=3, seed=index + 1)
            np.testing.assert_array_equal(pixels(alone.image), pixels(together[index].image))

    def test_a_crop_works_at_full_resolution(self, null: Editor) -> None:
        picture, mask = np.zeros((300, 400, 3), np.uint8), np.zeros((300, 400), bool)
        mask[100:140, 200:240] = True
        result = null.edit(picture, BLUE, mask=mask, mask_padding=10, steps=1)
        assert result.working_size == (64, 48)  # 80 x 60 pixels of the picture, in its shape
        assert result.image.size == (400, 300)


@pytest.mark.torch
class TestStyleWeights:
    """Distances in latents, averaged over pairs: `benchmarks/style_curves.py` prints the whole curves."""

    @pytest.fixture
    def distances(self, editor: Editor) -> Callable[..., tuple[float, float]]:
        curves = pytest.importorskip("style_curves")
        pairs = curves.scenes(4, 64)
        return lambda **weights: curves.measure(editor, pairs, steps=6, **weights)

    def test_more_style_is_nearer_to_it_and_farther_from_the_content(
        self, distances: Callable[..., tuple[float, float]]
    ) -> None:
        found = [distances(content_weight=0.2, style_weight=weight) for weight in (0.0, 0.3, 0.8)]
        grams, contents = zip(*found, strict=True)
        assert list(grams) == sorted(grams, reverse=True), grams
        assert list(contents) == sorted(contents), contents
        assert grams[-1] < 0.5 * grams[0]

    def test_more_content_is_nearer_to_it(self, distances: Callable[..., tuple[float, float]]) -> None:
        contents = [distances(content_weight=weight, style_weight=0.3)[1] for weight in (0.0, 0.3, 0.7)]
        assert contents == sorted(contents, reverse=True), contents


class TestStyle:
    def test_outside_its_window_nothing_pulls(self, editor: Editor) -> None:
        free = editor.style(SCENE, GREEN, seed=3, steps=5, content_weight=0, style_weight=0)
        closed = editor.style(SCENE, GREEN, seed=3, steps=5, style_interval=(0.5, 0.5))
        np.testing.assert_array_equal(pixels(free.image), pixels(closed.image))

    def test_the_palette_moves(self, editor: Editor) -> None:
        """The content has a yellow background, the style a green one."""
        made = pixels(editor.style(SCENE, GREEN, seed=1).image)
        red, green, blue = made[2:14, 44:62].mean((0, 1))
        assert green > 1.5 * red
        assert green > 1.5 * blue
