"""LoRA files: the arithmetic, every spelling, and what is refused."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loras import ATTENTION, SHAPES, TEXT, Tensors, lora, write
from pixrt import LoraError
from pixrt.lora import forms
from pixrt.lora.keys import LayerChange
from pixrt.lora.merging import Factor, LoraInput, LoraSet, load_loras, merge
from pixrt.lora.scales import METADATA_KEY

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
FLAT = LAYER.replace(".", "_")
PARENT = LAYER.removesuffix(".to_q")
WIDTH, TEXT_WIDTH = SHAPES["unet"][f"{LAYER}.weight"][0], SHAPES["text_encoder"][f"{TEXT[0]}.weight"][0]


def load(*files: LoraInput) -> LoraSet:
    return load_loras(files, SHAPES, "the bundle 'shapes'")


# The arithmetic.


def test_merging_is_the_sum() -> None:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((5, 4, 3, 3)).astype(np.float32)
    parts = [
        (generator.standard_normal((5, rank, 1, 1)), generator.standard_normal((rank, 4, 3, 3)), scale)
        for rank, scale in ((2, 0.7), (3, -1.5))
    ]
    factors = []
    for up, down, scale in parts:
        change = forms.change_of({"up": up, "down": down})
        assert change is not None
        factors.append(Factor(LayerChange(change, 1, weight.shape), scale))
    # A convolution to r channels, then a 1x1 one, is one with the product of the kernels.
    expected = weight + sum(scale * np.einsum("or,rihw->oihw", up[:, :, 0, 0], down) for up, down, scale in parts)
    found = merge("it", weight, factors)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(merge("it", weight, []), weight)
    np.testing.assert_array_equal(merge("it", weight, factors[::-1]), found)


# What the file says.


def config(**entries: Any) -> dict[str, str]:
    return {METADATA_KEY: json.dumps({f"unet.{name}": value for name, value in entries.items()})}


def scale_of(tmp_path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> float:
    factors = load(write(tmp_path / "it.safetensors", tensors, metadata)).factors["unet"]
    return factors[f"{LAYER}.weight"][0].scale


@pytest.mark.parametrize(
    ("metadata", "scale"),
    [
        (None, 1.0),
        (config(r=4, lora_alpha=6), 1.5),
        (config(r=4, lora_alpha=6, use_rslora=True), 3.0),
        (config(r=4, lora_alpha=6, alpha_pattern={"attn1.to_q": 2}), 0.5),
        (config(r=4, lora_alpha=6, alpha_pattern={"tn1.to_q": 2}), 1.5),
        (config(r=4, lora_alpha=6, alpha_pattern={"to_k": 1, "mid_block.*to_q": 8, "to_q": 2}), 2.0),
        (config(r=9, lora_alpha=6, rank_pattern={"to_q": 4}), 1.5),
    ],
)
def test_the_scale_out_of_the_metadata(tmp_path: Path, metadata: dict[str, str] | None, scale: float) -> None:
    assert scale_of(tmp_path, lora([LAYER], rank=4), metadata) == scale


SPELLINGS = {
    "peft": f"unet.{LAYER}.lora_{{A,B}}.weight",
    "diffusers": f"unet.{LAYER}.lora.{{down,up}}.weight",
    "diffusers with processors": f"unet.{PARENT}.processor.to_q_lora.{{down,up}}.weight",
    "without a prefix": f"{PARENT}.processor.to_q_lora.{{down,up}}.weight",
    "kohya": f"lora_unet_{FLAT}.lora_{{down,up}}.weight",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_every_spelling_is_the_same_lora(tmp_path: Path, spelling: str) -> None:
    expected = load(write(tmp_path / "peft.safetensors", lora([LAYER]))).factors
    down, up = lora([LAYER]).values()
    start, rest = spelling.split("{")
    words, end = rest.split("}")
    names = [f"{start}{word}{end}" for word in words.split(",")]
    tensors = dict(zip(names, (down, up), strict=True))
    found = load(write(tmp_path / "it.safetensors", tensors)).factors
    assert found.keys() == expected.keys()
    for name, (factor,) in found["unet"].items():
        np.testing.assert_array_equal(factor.added.matrix(), expected["unet"][name][0].added.matrix())
    alpha = names[0].split(".lora_" if ".lora_" in names[0] else "_lora." if "_lora." in names[0] else ".lora.")[0]
    assert scale_of(tmp_path, tensors | {f"{alpha}.alpha": np.float32(3)}) == 1.5


@pytest.mark.parametrize(
    "name",
    [
        "text_encoder.text_model.encoder.layers.0.self_attn.out_proj.lora_A.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.out_proj.lora_linear_layer.down.weight",
        "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.down.weight",
        "lora_te_text_model_encoder_layers_0_self_attn_out_proj.lora_down.weight",
        "lora_te1_text_model_encoder_layers_0_self_attn_out_proj.lora_down.weight",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight",
    ],
)
def test_the_last_projection_is_found(tmp_path: Path, name: str) -> None:
    part, size = ("text_encoder", TEXT_WIDTH) if "text_model" in name else ("unet", WIDTH)
    other = name.replace("lora_A", "lora_B").replace("down", "up")
    tensors = {name: np.ones((2, size), np.float32), other: np.ones((size, 2), np.float32)}
    (layer,) = load(write(tmp_path / "it.safetensors", tensors)).factors[part]
    assert layer.endswith(("attn1.to_out.0.weight", "out_proj.weight"))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint16])
def test_every_type_of_number(tmp_path: Path, dtype: Any) -> None:
    tensors = lora([LAYER])
    # A bfloat16 is the upper half of a float32.
    given = {
        name: (x.view("<u4") >> 16).astype("u2") if dtype == np.uint16 else x.astype(dtype)
        for name, x in tensors.items()
    }
    (factor,) = load(write(tmp_path / "it.safetensors", given)).factors["unet"][f"{LAYER}.weight"]
    down, up = tensors.values()
    rtol = 2**-6 if dtype == np.uint16 else 2e-3
    np.testing.assert_allclose(factor.added.matrix(), up @ down, rtol=rtol, atol=rtol / 10)


# What is refused.


def _change(tensors: Tensors, **changes: Any) -> Tensors:
    """Replace by the end of the name; None takes away."""
    kept = dict(tensors)
    for role, value in changes.items():
        del kept[f"unet.{LAYER}.{role}.weight"]
        if value is not None:
            kept[f"unet.{LAYER}.{role}.weight"] = value
    return kept


def _f32(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


ONE = lora([LAYER])
WRONG: dict[str, tuple[Tensors, dict[str, str] | None, str]] = {
    "a checkpoint": ({"conv_in.weight": _f32(4, 4)}, None, "is not a LoRA: none of its 1 tensors"),
    "nothing": ({}, None, "none of its 0 tensors"),
    "another layer": (
        {f"unet.x{i}.lora_A.weight": _f32(1, 1) for i in range(5)},
        None,
        "x0, unet.x1, unet.x2 and 2 more",
    ),
    "some other layers": (ONE | {"unet.x.lora_A.weight": _f32(1, 1)}, None, "x, beside 1 that it has"),
    "XL": (
        {"lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.lora_down.weight": _f32(1, 1)},
        None,
        "for Stable Diffusion XL",
    ),
    "XL text": ({"text_encoder_2.q.lora_A.weight": _f32(1, 1)}, None, "for Stable Diffusion XL"),
    "wider": (_change(ONE, lora_A=_f32(2, 320)), None, f"[2, 320] and [{WIDTH}, 2]"),
    "two ranks": (_change(ONE, lora_A=_f32(3, WIDTH)), None, f"which is [{WIDTH}, {WIDTH}]"),
    "no rank": (_change(ONE, lora_A=_f32(0, WIDTH), lora_B=_f32(WIDTH, 0)), None, f"[0, {WIDTH}]"),
    "a number": (_change(ONE, lora_A=np.float32(1)), None, "the weights []"),
    "one half": (_change(ONE, lora_B=None), None, "no up weight for mid_block"),
    "infinite": (_change(ONE, lora_B=np.full((WIDTH, 2), np.inf, np.float32)), None, "not finite"),
    "twice": (ONE | {f"lora_unet_{FLAT}.lora_down.weight": _f32(2, WIDTH)}, None, "twice"),
    "DoRA": (ONE | {f"unet.{LAYER}.lora_magnitude_vector": _f32(WIDTH)}, None, "DoRA"),
    "LoHa in part": ({f"lora_unet_{FLAT}.hada_w{i}": _f32(2, 2) for i in ("1_a", "1_b", "2_a")}, None, "no hada_w2_b"),
    "OFT": ({f"lora_unet_{FLAT}.oft_blocks": _f32(1, 1)}, None, "OFT"),
    "two adapters": (
        {f"unet.{LAYER}.lora_A.{name}.weight": _f32(2, WIDTH) for name in ("one", "other")},
        None,
        "several adapters: one, other",
    ),
    "Flux": ({"transformer.transformer_blocks.1.attn.to_q.lora_A.weight": _f32(1, 1)}, None, "such as Flux"),
    "biases": (ONE | {f"unet.{LAYER}.lora_B.bias": _f32(WIDTH)}, None, "biases"),
    "something beside": (ONE | {"step": _f32(1)}, None, "holds 'step', which is no LoRA's"),
    "two alphas": (ONE | {f"unet.{LAYER}.alpha": _f32(2)}, None, "more than one number"),
    "metadata": (ONE, {METADATA_KEY: "{"}, "not JSON"),
    "metadata list": (ONE, {METADATA_KEY: "[1]"}, "not a JSON object"),
    "another rank": (ONE, config(r=3, lora_alpha=3), "says the rank 3"),
    "alpha nan": (ONE, config(r=2, lora_alpha=float("nan")), "alpha_pattern"),
    "alpha text": (ONE, config(r=2, lora_alpha="8"), "alpha_pattern"),
    "patterns list": (ONE, config(r=2, lora_alpha=2, alpha_pattern=["x"]), "['x']"),
    "slow pattern": (ONE, config(r=2, lora_alpha=2, alpha_pattern={"(a+)+": 1}), "the pattern '(a+)+'"),
    "broken pattern": (ONE, config(r=2, lora_alpha=2, alpha_pattern={"[": 1}), "the pattern '['"),
    "DoRA in the metadata": (ONE, config(r=2, lora_alpha=2, use_dora=True), "DoRA"),
    "PiSSA": (ONE, config(r=2, lora_alpha=2, init_lora_weights="pissa_niter_4"), "pissa"),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused(tmp_path: Path, case: tuple[Tensors, dict[str, str] | None, str]) -> None:
    tensors, metadata, words = case
    file = write(tmp_path / "wrong.safetensors", tensors, metadata)
    with pytest.raises(LoraError) as caught:
        load(file)
    assert words in str(caught.value)
    assert "wrong.safetensors" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("it.safetensors", None, "cannot be read: No such file"),
        ("it.safetensors", b"", "0 bytes, too few"),
        ("it.safetensors", b"x" * 100, "no safetensors header"),
        ("it.safetensors", b"PK\x03\x04" + b"x" * 100, "is a pickle"),
        ("it.safetensors", b"\x80\x02}q\x00.", "is a pickle"),
        ("it.bin", b"x" * 100, "Convert it to safetensors"),
        ("it.ckpt", b"", "is a pickle"),
        (".", None, "is a folder with none"),
        ("a\0b", None, "cannot be read"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LoraError) as caught:
        load(tmp_path / name)
    assert words in str(caught.value)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), "1", True, None])
def test_a_scale_that_is_no_number(tmp_path: Path, scale: Any) -> None:
    file = write(tmp_path / "style.safetensors", ONE)
    with pytest.raises(LoraError, match=r"the scale of the LoRA .* is"):
        load((file, scale))


@pytest.mark.parametrize("wrong", ["it.safetensors", [3], [("a", 1, 2)], ["a"] * 9])
def test_what_is_no_list_of_loras(wrong: Any) -> None:
    with pytest.raises(LoraError):
        load_loras(wrong, SHAPES, "it")


def test_a_header_as_long_as_a_pickle_begins(tmp_path: Path) -> None:
    """A header of 0x280 bytes makes a file begin as pickles do."""
    for pad in range(600):
        file = write(tmp_path / "it.safetensors", ONE, {"pad": "x" * pad})
        if file.read_bytes()[:2] == b"\x80\x02":
            assert load(file).specs
            return
    pytest.fail("no such header")


@given(
    st.lists(st.sampled_from(range(len(ATTENTION))), min_size=1, max_size=4, unique=True), st.integers(1, 5), st.data()
)
def test_the_order_of_the_tensors_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, layers: list[int], rank: int, data: st.DataObject
) -> None:
    tensors = lora([ATTENTION[i] for i in layers], rank=rank)
    names = data.draw(st.permutations(list(tensors)))
    folder = tmp_path_factory.mktemp("order")
    one = load(write(folder / "a.safetensors", tensors)).factors["unet"]
    other = load(write(folder / "b.safetensors", {name: tensors[name] for name in names})).factors["unet"]
    assert one.keys() == other.keys() == {f"{ATTENTION[i]}.weight" for i in layers}
    for name, (factor,) in one.items():
        np.testing.assert_array_equal(factor.added.matrix(), other[name][0].added.matrix())


def test_many_patterns_take_no_time(tmp_path: Path) -> None:
    """Each pattern is tried on every layer."""
    names = {f"layer_{number}": 4 for number in range(150_000)}
    odd = {f"a.*b{number}.*": 4 for number in range(1000)}
    for key, patterns in (
        ("unet.alpha_pattern", names),
        ("unet.rank_pattern", odd),
        ("unet.alpha_pattern", {"x" * 300: 4}),
    ):
        config = {"unet.r": 2, "unet.lora_alpha": 4, key: patterns}
        path = write(tmp_path / "it.safetensors", lora(ATTENTION), {METADATA_KEY: json.dumps(config)})
        started = time.process_time()
        with pytest.raises(LoraError, match="entries"):
            load_loras([path], SHAPES, "shapes")
        assert time.process_time() - started < 10


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    tensors = {name: values.astype(np.float16) for name, values in lora(ATTENTION[:1]).items()}
    path = write(tmp_path / "it.safetensors", tensors)
    path.write_bytes(path.read_bytes().replace(b'"F16"', b'"I16"'))
    with pytest.raises(LoraError, match="int16"):
        load_loras([path], SHAPES, "shapes")
