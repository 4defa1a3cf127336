"""DeepCache: the shallow network, and whole edits with it, are what diffusers' own UNet makes of recorded features.

The reference hooks the decoder's layer that takes a feature and a skip connection: a forward pass in full records the
feature, and one with a recorded feature in its place is the shallow network's.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exported import Exports
from loras import write
from pixrt import Editor
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
from pixrt.errors import OptionError
from pixrt.maths.noise import draw_noise
from pixrt_export import ExportOptions, export_checkpoint

pytestmark = pytest.mark.torch

BRANCH = 3  # of the small UNet's six; its feature has half of the latents' size
TOLERANCE = 1e-5  # of the largest value: the same sums in another order, over some dozen layers
SIZE = (72, 40)  # latents of 9 x 5, which do not halve evenly


def export(checkpoint: Path, output: Path, **options: Any) -> Path:
    given = ExportOptions(checkpoint=str(checkpoint), output=output, deep_cache=True, **options)
    export_checkpoint(given, on_progress=lambda stage: None)
    return output


@pytest.fixture(scope="module")
def bundle(exports: Exports) -> Path:
    def make(folder: Path) -> Path:
        return export(exports.checkpoint("sd1"), folder, cache_branch_id=BRANCH, fused_step=True)

    return exports.other("deep", make)


@pytest.fixture(scope="module")
def unet(exports: Exports) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel.from_pretrained(exports.checkpoint("sd1") / "unet")


@contextmanager
def cut(unet: Any, branch: int, given: Any = None) -> Iterator[list[Any]]:
    """Records the features of what runs meanwhile, or puts a given one in their place."""
    import torch

    widths, layers = unet.config.block_out_channels, unet.config.layers_per_block
    skips = [widths[0]]
    for number, width in enumerate(widths):
        skips += [width] * (layers + (number < len(widths) - 1))
    found: list[Any] = []

    def hook(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        joined, *others = inputs
        feature, skip = joined[:, : -skips[branch]], joined[:, -skips[branch] :]
        found.append(feature.clone())
        return torch.cat([feature if given is None else given, skip], 1), *others

    decoder = [resnet for block in unet.up_blocks for resnet in block.resnets]
    handle = decoder[-1 - branch].register_forward_pre_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


def run_torch(unet: Any, fed: dict[str, NDArray[Any]], branch: int, feature: Any = None) -> tuple[Any, Any]:
    """What the UNet predicts, and its feature."""
    import torch

    inputs = {name: torch.from_numpy(np.float32(values)) for name, values in fed.items()}
    with torch.no_grad(), cut(unet, branch, feature) as found:
        made = unet(**inputs).sample
    return made.numpy(), found[0]


def session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds(unet: Any, shape: tuple[int, int, int], seed: int) -> dict[str, NDArray[Any]]:
    draw, (batch, height, width) = np.random.default_rng(seed), shape
    return {
        "sample": draw.standard_normal((batch, unet.config.in_channels, height, width), np.float32),
        "timestep": draw.uniform(0, 999, batch).astype(np.float32),
        "encoder_hidden_states": draw.standard_normal((batch, 77, unet.config.cross_attention_dim), np.float32),
    }


@pytest.mark.parametrize(("kind", "branches"), [("sd1", (0, 2, 3, 5)), ("photo", (0, 3))])
def test_wherever_it_is_cut_the_shallow_network_is_pytorchs(
    exports: Exports, kind: str, branches: Sequence[int], tmp_path: Path
) -> None:
    """At every cut: the UNet's feature and output, and what the shallow network makes of a feature of other inputs."""
    import diffusers
    import onnx
    import torch

    from pixrt_export.deep_cache import find_cut, give_feature, write_shallow

    unet = diffusers.UNet2DConditionModel.from_pretrained(exports.checkpoint(kind) / "unet")
    graph = open_bundle(exports.bundle(kind, "fp32")).file(Component.UNET)
    sizes, scales = [], []
    for branch in branches:
        whole, shallow = tmp_path / f"{branch}.onnx", tmp_path / f"{branch}_shallow.onnx"
        whole.write_bytes(graph.read_bytes())
        given = find_cut(unet, branch)
        give_feature(whole, given)
        write_shallow(whole, shallow, branch)
        sizes.append(sum(np.prod(each.dims) for each in onnx.load(str(shallow)).graph.initializer))
        scales.append(given.spec.scale)
        networks = session(whole), session(shallow)
        for number, shape in enumerate([(1, 8, 8), (2, 5, 11)]):
            fed, other = feeds(unet, shape, number), feeds(unet, shape, number + 10)
            expected, feature = run_torch(unet, fed, branch)
            _, recorded = run_torch(unet, other, branch)
            made = networks[0].run(["out_sample", "deep_feature"], fed)
            for ours, theirs in zip(made, (expected, feature.numpy()), strict=True):
                assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()
            assert made[1].shape[2:] == tuple(-(-side // given.spec.scale) for side in shape[1:])
            expected, _ = run_torch(unet, fed, branch, recorded)
            (ours,) = networks[1].run(["out_sample"], fed | {"deep_feature": recorded.numpy()})
            assert np.abs(ours - expected).max() <= TOLERANCE * np.abs(expected).max()
            assert torch.tensor(ours).std() > 0
    assert scales == [2 ** (branch // 2) for branch in branches]
    assert all(few < many for few, many in pairwise(sizes))


def predictions(
    unet: Any, scheduler: Any, given: dict[str, Any], steps: int, every: int, cached: int, window: tuple[float, float]
) -> list[NDArray[Any]]:
    """The latents after every step of an edit: diffusers' UNet and solver, with dicts of what each branch made last."""
    import torch

    scheduler.set_timesteps(steps)
    latents, states = given["noise"] * float(scheduler.init_noise_sigma), []
    conditions = {
        "text": (given["text"], given["source"]),
        "image": (given["null"], given["source"]),
        "nothing": (given["null"], np.zeros_like(given["source"])),
    }
    made: dict[str, tuple[int, Any]] = {}
    differences: dict[str, Any] = {}  # to the branch with the instruction, at the step that made them
    deep: dict[str, tuple[int, Any]] = {}
    for at, t in enumerate(scheduler.timesteps):
        is_guided = window[0] <= at / len(scheduler.timesteps) < window[1]
        for name in conditions if is_guided else ("text",):
            if name != "text" and name in made and at - made[name][0] < every:
                continue
            text, source = conditions[name]
            scaled = scheduler.scale_model_input(torch.from_numpy(latents), t).numpy()
            fed = {
                "sample": np.concatenate([scaled, source], 1),
                "timestep": np.array([float(t)]),
                "encoder_hidden_states": text,
            }
            is_shallow = at % cached > 0 and name in deep and at - deep[name][0] < cached
            output, feature = run_torch(unet, fed, BRANCH, deep[name][1] if is_shallow else None)
            made[name] = at, output
            differences[name] = output - made["text"][1]
            if not is_shallow:
                deep[name] = at, feature
        eps = made["text"][1]
        if is_guided:
            text, image, nothing = eps, *(eps + differences[name] for name in ("image", "nothing"))
            eps = nothing + 5.0 * (text - image) + 1.5 * (image - nothing)
        latents = scheduler.step(torch.from_numpy(eps), t, torch.from_numpy(latents)).prev_sample.numpy()
        states.append(latents[0])
    return states


class Reference:
    """The edit of one picture in PyTorch, of a checkpoint."""

    def __init__(self, checkpoint: Path) -> None:
        import diffusers

        self.pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
            checkpoint, safety_checker=None, requires_safety_checker=False
        )
        self.picture = np.random.default_rng(4).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)

    def given(self, text: str, seed: int) -> dict[str, Any]:
        import torch

        pipeline = self.pipeline
        ids = [
            pipeline.tokenizer(each, padding="max_length", max_length=77, return_tensors="pt").input_ids
            for each in (text, "")
        ]
        pixels = torch.from_numpy(self.picture.transpose(2, 0, 1)[None] / np.float32(127.5) - 1)
        noise = np.empty((1, 4, SIZE[1] // 8, SIZE[0] // 8), np.float32)
        draw_noise(seed, noise)
        with torch.no_grad():
            texts = [pipeline.text_encoder(each)[0].numpy() for each in ids]
            source = pipeline.vae.encode(pixels).latent_dist.mode().numpy()
        return {"text": texts[0], "null": texts[1], "source": source, "noise": noise}


@pytest.fixture(scope="module")
def reference(exports: Exports) -> Reference:
    return Reference(exports.checkpoint("sd1"))


def states_of(editor: Editor, reference: Reference, **parameters: Any) -> list[NDArray[Any]]:
    states: list[NDArray[Any]] = []
    editor.edit(
        reference.picture,
        "make it winter",
        seed=7,
        resolution=max(SIZE),
        guidance_scale=5.0,
        image_guidance_scale=1.5,
        on_step=lambda info: states.append(info.latents),
        **parameters,
    )
    return states


SOLVERS = {
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
}


@pytest.mark.parametrize(
    ("solver", "every", "cached", "window"),
    [
        ("ddim", 1, 2, (0.0, 1.0)),
        ("pndm", 2, 3, (0.0, 1.0)),
        ("euler", 1, 5, (0.3, 0.8)),
        ("ddim", 3, 2, (0.0, 0.5)),
        ("pndm", 3, 1, (0.2, 1.0)),
    ],
)
def test_an_edit_is_diffusers(
    bundle: Path, reference: Reference, unet: Any, solver: str, every: int, cached: int, window: tuple[float, float]
) -> None:
    import diffusers

    name, config = SOLVERS[solver]
    scheduler = getattr(diffusers, name).from_config(dict(reference.pipeline.scheduler.config) | config)
    expected = predictions(unet, scheduler, reference.given("make it winter", 7), 6, every, cached, window)
    intervals = {"branch_interval": every, "cache_interval": cached}
    with Editor(bundle, backend="ort-cpu", threads=1, fused_step=False) as editor:
        states = states_of(editor, reference, steps=6, scheduler=solver, guidance_interval=window, **intervals)
    assert len(states) == len(expected)
    for ours, theirs in zip(states, expected, strict=True):
        # Over the steps guidance multiplies the rounding of each network call.
        assert np.abs(ours - theirs).max() <= 2e-4 * np.abs(theirs).max()


def test_one_is_the_exact_edit(exports: Exports, bundle: Path, reference: Reference) -> None:
    """To the bit what it is without the option; and what a bundle without a shallow network makes."""
    found = []
    for folder, given in (
        (bundle, {"cache_interval": 1, "branch_interval": 1}),
        (bundle, {}),
        (exports.bundle("sd1", "fp32"), {}),
    ):
        with Editor(folder, backend="ort-cpu", threads=1, fused_step=False) as editor:
            found.append(np.stack(states_of(editor, reference, steps=4, scheduler="euler_ancestral", **given)))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[1] - found[2]).max() <= TOLERANCE * np.abs(found[2]).max()


def test_a_lora_is_in_both_networks(bundle: Path, reference: Reference, exports: Exports, tmp_path: Path) -> None:
    import diffusers
    import torch

    unet = diffusers.UNet2DConditionModel.from_pretrained(exports.checkpoint("sd1") / "unet")
    draw, tensors = np.random.default_rng(2), {}
    for layer in ("down_blocks.0.attentions.0", "mid_block.attentions.0", "up_blocks.2.attentions.1"):
        name = f"{layer}.transformer_blocks.0.attn1.to_v"
        weight = unet.get_submodule(name).weight
        low, high = (
            0.3 * draw.standard_normal(shape, np.float32) for shape in ((2, weight.shape[1]), (weight.shape[0], 2))
        )
        tensors |= {f"unet.{name}.lora_A.weight": low, f"unet.{name}.lora_B.weight": high}
        with torch.no_grad():
            weight += torch.from_numpy(high @ low)
    scheduler = diffusers.DDIMScheduler.from_config(reference.pipeline.scheduler.config)
    expected = predictions(unet, scheduler, reference.given("make it winter", 7), 3, 1, 2, (0.0, 1.0))
    file = write(tmp_path / "lora.safetensors", tensors)
    given = {"steps": 3, "scheduler": "ddim", "cache_interval": 2}
    with Editor(bundle, backend="ort-cpu", threads=1, fused_step=False) as editor:
        plain = states_of(editor, reference, **given)
        editor.set_loras([file])
        states = states_of(editor, reference, **given)
        editor.set_loras([])
        again = states_of(editor, reference, **given)
    for ours, theirs, without, after in zip(states, expected, plain, again, strict=True):
        assert np.abs(ours - theirs).max() <= 2e-4 * np.abs(theirs).max()
        assert np.abs(without - theirs).max() > 1e-2 * np.abs(theirs).max()
        np.testing.assert_array_equal(without, after)


def test_counts_company_and_tiles(bundle: Path) -> None:
    """Pictures of different intervals in one call are what they are alone, tiled ones too; rows are told."""
    pictures = [np.full((64, 48, 3), shade, np.uint8) for shade in (40, 120, 220)]
    jobs = [{"cache_interval": 2}, {"cache_interval": 3, "branch_interval": 2}, {"cache_interval": 2, "steps": 3}]
    for session_options in ({}, {"tile": 128}):
        size = {"resolution": 192} if session_options else {}
        with Editor(bundle, backend="ort-cpu", threads=1, fused_step=False, **session_options) as editor:
            alone = [
                editor.edit(picture, "as a drawing", seed=1, **({"steps": 4} | size | given))
                for picture, given in zip(pictures, jobs, strict=True)
            ]
            assert [result.shallow_rows // max(1, result.network_rows // 12) for result in alone[:1]] == [6]
            together = editor.edit(pictures, "as a drawing", seed=1, steps=4, cache_interval=2, **size)
        np.testing.assert_array_equal(np.asarray(together[0].image), np.asarray(alone[0].image))
        assert alone[0].parameters["cache_interval"] == 2
        assert alone[1].parameters["branch_interval"] == 2


@pytest.mark.parametrize("preset", ["fast", "turbo"])
def test_presets_use_what_can_run(exports: Exports, bundle: Path, preset: Any) -> None:
    """And nothing else, whatever the backend: what is said is refused as ever."""
    picture = np.zeros((32, 32, 3), np.uint8)
    none, both = frozenset[str](), frozenset({"branch_interval", "cache_interval"})
    for folder, fused, levers in (
        (bundle, False, both),
        (bundle, True, none),
        (exports.bundle("sd1", "fp32"), False, both - {"cache_interval"}),
    ):
        with Editor(folder, backend="ort-cpu", threads=1, fused_step=fused) as editor:
            assert editor.levers == levers
            result = editor.edit(picture, "make it winter", seed=1, preset=preset)
            assert {name for name in both if result.parameters[name] > 1} == levers
            assert (result.shallow_rows > 0) == ("cache_interval" in levers)
            said = {"branch_interval": 1, "cache_interval": 1, "steps": 2}
            stays = editor.edit(picture, "make it winter", seed=1, preset=preset, **said).parameters
            assert {name: stays[name] for name in said} == said
            if fused:
                with pytest.raises(OptionError, match="fused step"):
                    editor.edit(picture, "make it winter", preset=preset, cache_interval=2)


def test_what_cannot_be_is_refused(exports: Exports, bundle: Path, tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    for given in ({"cache_interval": 2}, {"branch_interval": 2}):
        with Editor(bundle, backend="ort-cpu", fused_step=True) as editor:
            with pytest.raises(OptionError, match="fused step") as refused:
                editor.edit(picture, "make it winter", steps=2, **given)
            assert "--no-fused-step" in str(refused.value.remedy)
            assert refused.value.option == next(iter(given))
            assert editor.edit(picture, "make it winter", steps=1, **given).shallow_rows == 0  # nothing to use again
    with (
        Editor(exports.bundle("sd1", "fp32"), backend="null") as editor,
        pytest.raises(OptionError, match="no shallow network") as refused,
    ):
        editor.edit(picture, "make it winter", cache_interval=2)
    assert "--deep-cache" in str(refused.value.remedy)
    with pytest.raises(OptionError, match="6 skip connections"):
        export(exports.checkpoint("sd1"), tmp_path / "bundle", cache_branch_id=9)
    with pytest.raises(OptionError, match="deep_cache is not given"):
        ExportOptions(checkpoint="x", output=tmp_path, cache_branch_id=1)


def test_what_the_bundle_says(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.deep_cache is not None
    assert (manifest.deep_cache.cache_branch_id, manifest.deep_cache.scale) == (BRANCH, 2)
    spec = manifest.component(Component.UNET_SHALLOW)
    assert spec.inputs[-1].shape == ("batch", 32, "deep_height", "deep_width")
    assert spec.check.max_error <= spec.check.tolerance
    assert manifest.files[spec.file].bytes < 0.7 * manifest.files[manifest.component(Component.UNET).file].bytes


def outside_of(graph: Path) -> tuple[set[str], int]:
    """The files that hold a graph's weights, and the bytes of those that the graph holds itself."""
    import onnx

    tensors = onnx.load(str(graph), load_external_data=False).graph.initializer
    outside = [each for each in tensors if each.data_location == onnx.TensorProto.EXTERNAL]
    files = {entry.value for each in outside for entry in each.external_data if entry.key == "location"}
    return files, sum(len(each.raw_data) for each in tensors)


def test_the_weights_stand_once(exports: Exports, unet: Any, tmp_path: Path) -> None:
    """Where the UNet's weights are in a file of their own, the shallow network's are those."""
    import onnx

    from pixrt_export.deep_cache import find_cut, give_feature, write_shallow

    whole, shallow = tmp_path / "unet.onnx", tmp_path / "unet_shallow.onnx"
    model = onnx.load(str(open_bundle(exports.bundle("sd1", "fp32")).file(Component.UNET)))
    onnx.save(model, str(whole), save_as_external_data=True, location="unet.onnx_data", size_threshold=256)
    give_feature(whole, find_cut(unet, 0))
    write_shallow(whole, shallow, 0)
    files, inside = outside_of(shallow)
    assert files == {"unet.onnx_data"}
    assert inside < 1 << 13
    fed, other = feeds(unet, (1, 8, 8), 1), feeds(unet, (1, 8, 8), 2)
    _, recorded = run_torch(unet, other, 0)
    expected, _ = run_torch(unet, fed, 0, recorded)
    (ours,) = session(shallow).run(["out_sample"], fed | {"deep_feature": recorded.numpy()})
    assert np.abs(ours - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.slow
def test_a_compact_bundle_edits_with_the_checkpoints_own_weights(exports: Exports) -> None:
    folder = exports.other("deep_compact", lambda folder: export(exports.checkpoint("shapes"), folder, compact=True))
    files, inside = outside_of(folder / "unet_shallow.onnx")
    assert files == {"unet.safetensors"}
    assert inside < 1 << 17  # what is no parameter, such as the timestep's frequencies
    with Editor(folder, backend="ort-cpu", threads=1) as editor:
        result = editor.edit(np.zeros((64, 64, 3), np.uint8), "make it darker", steps=2, cache_interval=2)
    assert (result.network_rows, result.shallow_rows) == (6, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "branch"), [("fp16", 0), ("fp16-weights", 0), ("fp16", 4)])
def test_other_precisions(exports: Exports, tmp_path: Path, precision: Any, branch: int, scene: Any) -> None:
    """The export checks them against PyTorch; here they edit."""
    folder = export(exports.checkpoint("sd1"), tmp_path / "bundle", precision=precision, cache_branch_id=branch)
    spec = open_bundle(folder).manifest.component(Component.UNET_SHALLOW)
    assert spec.inputs[-1].dtype == ("float16" if precision == "fp16" else "float32")
    with Editor(folder, backend="ort-cpu", threads=1) as editor:
        assert editor.edit(scene, "make it winter", steps=3, cache_interval=3).shallow_rows == 6
