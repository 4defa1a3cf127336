"""Shapes of a request: static profiles, the dynamic one, and what is refused with its numbers."""

from dataclasses import replace
from typing import Any

import pytest

from pixrt.bundles.manifest import Component, ComponentSpec, Manifest, TensorSpec, parse_manifest
from pixrt.bundles.store import BUILT_IN
from pixrt.errors import OptionError
from pixrt.options.session import SessionOptions
from pixrt_engines.options import BuildOptions, Knobs, parse_batch, parse_branches, parse_components, parse_sizes
from pixrt_engines.profiles import plan_profiles

STEP_INPUTS = {
    "latents": ("batch", 4, "height", "width"),
    "source": ("sources", 4, "height", "width"),
    "context": ("rows", "tokens", 64),
    "row_to_latents": ("rows",),
    "branch_rows": ("batch", 3),
}


def manifest_of(vae_scale: int = 8, **changes: Any) -> Manifest:
    """That of `shapes`, with a fused step, at Stable Diffusion's 8 pixels per latent."""
    path = BUILT_IN / "shapes" / "manifest.json"
    manifest = parse_manifest(path.read_text(), "m")
    unet = manifest.components["unet"]
    step = replace(unet, inputs=tuple(TensorSpec(name, "float32", shape) for name, shape in STEP_INPUTS.items()))
    components: dict[str, ComponentSpec] = manifest.components | {"unet_step": step}
    return replace(
        manifest,
        components=components,
        latents=replace(manifest.latents, scale=vae_scale),
        size_multiple=vae_scale,
        **changes,
    )


(WIDTH,) = {t.fixed(2) for t in manifest_of().components["unet"].inputs if t.name == "encoder_hidden_states"}


def profiles(component: Component, sizes: str = "512x512", batch: str = "1", branches: str = "1,2,3") -> dict[str, Any]:
    found = plan_profiles(component, manifest_of(), parse_sizes(sizes), parse_batch(batch), parse_branches(branches))
    assert len({named.name for named in found}) == len(found)
    return {named.name: named.profile for named in found}


def test_a_few_static_plans_and_one_dynamic() -> None:
    found = profiles(Component.UNET, "512x512,768x512", "1-4")
    assert list(found) == [
        *(f"{size}-{rows}" for size in ("512x512", "768x512") for rows in ("1row", "2rows", "3rows")),
        "dynamic",
    ]
    static = found["768x512-3rows"].inputs
    assert static["sample"].min == static["sample"].opt == static["sample"].max == (3, 8, 64, 96)
    assert static["timestep"].opt == (3,)
    assert static["encoder_hidden_states"].opt == (3, manifest_of().tokenizers[0].max_length, WIDTH)
    dynamic = found["dynamic"].inputs["sample"]
    assert (dynamic.min, dynamic.opt, dynamic.max) == ((1, 8, 64, 64), (12, 8, 64, 64), (12, 8, 64, 96))
    assert [profile.is_static for profile in found.values()] == [True] * 6 + [False]


def test_the_dynamic_plan_takes_what_lies_between() -> None:
    dynamic = profiles(Component.UNET, "512x512,768x768", "1-2")["dynamic"]
    tokens = manifest_of().tokenizers[0].max_length

    def holds(rows: int, height: int, width: int) -> bool:
        shapes = {
            "sample": (rows, 8, height, width),
            "timestep": (rows,),
            "encoder_hidden_states": (rows, tokens, WIDTH),
        }
        return bool(dynamic.holds(shapes))

    assert holds(1, 64, 64)
    assert holds(5, 70, 96)
    assert not holds(7, 64, 64)
    assert not holds(1, 56, 64)
    assert not dynamic.holds({"sample": (1, 8, 64, 64)})


def test_one_shape_makes_one_plan() -> None:
    assert list(profiles(Component.UNET)) == ["512x512-1row", "512x512-2rows", "512x512-3rows"]  # nothing is between
    assert list(profiles(Component.UNET, branches="1,3")) == ["512x512-1row", "512x512-3rows"]
    assert list(profiles(Component.UNET, branches="3")) == ["512x512-3rows"]
    assert list(profiles(Component.TEXT_ENCODER, "512x512,768x512", "1-4")) == ["static"]
    assert list(profiles(Component.VAE_DECODER, batch="1-4")) == ["512x512"]


def test_the_fused_step_counts_batch_rows_and_sources() -> None:
    found = profiles(Component.UNET_STEP, batch="2-4", branches="1,3")
    assert list(found) == ["512x512-batch2-2rows", "512x512-batch2-6rows", "dynamic"]
    inputs = found["512x512-batch2-6rows"].inputs
    assert inputs["latents"].opt == (2, 4, 64, 64)
    assert inputs["source"].opt == (3, 4, 64, 64)
    assert inputs["context"].opt[0] == 6
    assert inputs["branch_rows"].opt == (2, 3)
    ranges = found["dynamic"].inputs
    assert (ranges["source"].min[0], ranges["source"].max[0]) == (3, 5)
    assert (ranges["row_to_latents"].min, ranges["row_to_latents"].max) == ((2,), (12,))


def test_the_vae_works_on_one_picture_in_pixels() -> None:
    found = profiles(Component.VAE_ENCODER, "512x512,768x512", "1-4")
    assert list(found) == ["512x512", "768x512", "dynamic"]
    assert found["768x512"].inputs["sample"].opt == (1, 3, 512, 768)
    assert profiles(Component.VAE_DECODER, "768x512")["768x512"].inputs["latent_sample"].opt == (1, 4, 64, 96)


def test_the_native_size_and_its_narrower_ones_are_the_default() -> None:
    manifest = manifest_of(native_resolution=256)
    square, dynamic = plan_profiles(Component.VAE_ENCODER, manifest, (), (1, 1), (3,))
    assert (square.name, dynamic.name) == ("256x256", "dynamic")
    assert dynamic.profile.holds({"sample": (1, 3, 256, 128)})
    assert dynamic.profile.holds({"sample": (1, 3, 176, 256)})
    assert not dynamic.profile.holds({"sample": (1, 3, 120, 256)})


@pytest.mark.parametrize(("channels", "usual"), [(8, 3), (4, 2)])
def test_the_usual_branches_are_the_default(channels: int, usual: int) -> None:
    manifest = manifest_of(unet_in_channels=channels)
    found = plan_profiles(Component.UNET, manifest, ((512, 512),), (1, 1), ())
    assert [named.name for named in found] == [f"512x512-{usual}rows", "dynamic"]
    sample = found[1].profile.inputs["sample"]
    assert (sample.min[0], sample.opt[0], sample.max[0]) == (1, usual, usual)


@pytest.mark.parametrize(
    ("sizes", "branches", "words"),
    [
        ("500x512", "3", "500x512 is no multiple of 8, as this bundle needs. Use 504x512"),
        ("4x512", "3", "size 4x512 is too small"),
        ("4096x2048", "3", "8.4 megapixels"),
        ("2048x128", "3", "more than 8 times the other"),
        ("64x64,1024x1024", "3", "256 times the pixels"),
        (",".join(f"{64 * n}x512" for n in range(4, 12)), "1,2,3", "24 static profiles of the unet, more than 16"),
    ],
)
def test_refused_with_the_numbers(sizes: str, branches: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        profiles(Component.UNET, sizes, branches=branches)
    assert words in str(caught.value)


def test_a_model_without_a_source_has_two_branches() -> None:
    manifest = manifest_of(unet_in_channels=4)
    with pytest.raises(OptionError, match="no source picture"):
        plan_profiles(Component.UNET, manifest, (), (1, 1), (1, 2, 3))
    assert plan_profiles(Component.UNET, manifest, (), (1, 1), (1, 2))


def test_an_unknown_free_dimension_is_named() -> None:
    manifest = manifest_of()
    spec = replace(manifest.components["unet"], inputs=(TensorSpec("sample", "float32", ("batch", "frames")),))
    manifest = replace(manifest, components={"unet": spec})
    with pytest.raises(OptionError, match="'frames'"):
        plan_profiles(Component.UNET, manifest, (), (1, 1), (3,))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: parse_sizes("512"), "size is '512'"),
        (lambda: parse_batch("1-"), "batch is '1-'"),
        (lambda: parse_branches("x"), "branches is 'x'"),
        (lambda: parse_components(["unet", "nope"]), "component is 'nope'"),
        (lambda: BuildOptions(bundle="b", batch=(4, 2)), "batch is 2. It must be a whole number from 4"),
        (lambda: BuildOptions(bundle="b", batch=(1, 65)), "batch is 65"),
        (lambda: BuildOptions(bundle="b", branches=(4,)), "branches is 4"),
        (lambda: BuildOptions(bundle="b", branches=(3, 3)), "branches names 3 twice"),
        (lambda: BuildOptions(bundle="b", sizes=((8, 8), (8, 8))), "sizes names (8, 8) twice"),
        (lambda: BuildOptions(bundle="b", targets=("ada",)), "target is 'ada'"),
        (lambda: Knobs(workspace_mib=0), "workspace_mib is 0"),
        (lambda: Knobs(optimization_level=6), "optimization_level is 6"),
        (lambda: Knobs(max_aux_streams=-1), "max_aux_streams is -1"),
    ],
)
def test_wrong_options(make: Any, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        make()
    assert words in str(caught.value)


def test_the_default_takes_as_many_pictures_as_an_editor_lets_advance_together() -> None:
    assert BuildOptions(bundle="b").batch == (1, SessionOptions().max_batch)
