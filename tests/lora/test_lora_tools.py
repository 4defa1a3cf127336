"""LoRAs as peft, kohya-ss, LyCORIS, ComfyUI and OneTrainer write them, against peft, diffusers and the formulas."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixrt.bundles.manifest import Component
from pixrt.lora.keys import LayerChange
from pixrt.lora.merging import LoraSet, load_loras, merge
from pixrt.lora.names import Layers, _original

peft = pytest.importorskip("peft")
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:::peft")]

UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (32, 32),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 2,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
SD15: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
TARGETS = ["to_q", "to_k", "to_out.0", "proj_in", "conv1", "conv_in", "time_emb_proj", "conv_shortcut"]
Weights = dict[str, np.ndarray[Any, Any]]


def network(**changes: Any) -> Any:
    import diffusers
    import torch

    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(**UNET | changes)


def text_encoder() -> Any:
    import torch
    import transformers

    torch.manual_seed(1)
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(vocab_size=50, **sizes))


def weights_of(module: Any) -> Weights:
    import torch

    return {
        f"{name}.weight": layer.weight.detach().numpy().copy()
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    }


def shapes_of(**parts: Any) -> dict[str, dict[str, tuple[int, ...]]]:
    return {part: {name: w.shape for name, w in weights_of(module).items()} for part, module in parts.items()}


def load(path: Path, **given: Any) -> LoraSet:
    parts = {"unet": network(), "text_encoder": text_encoder()} | given
    return load_loras([path], shapes_of(**parts), "it")


def merged(loras: LoraSet, module: Any, part: str = "unet") -> Weights:
    factors = loras.factors.get(part, {})
    return {name: merge(name, weight, factors.get(name, ())) for name, weight in weights_of(module).items()}


def assert_same(found: Weights, expected: Weights, plain: Weights) -> None:
    """Every weight as expected within FP32's rounding, and many of them not as they were."""
    changed = 0
    for name, weight in expected.items():
        np.testing.assert_allclose(found[name], weight, rtol=0, atol=2e-6 * np.abs(weight).max(), err_msg=name)
        changed += not np.allclose(found[name], plain[name], rtol=0, atol=1e-3 * np.abs(weight).max())
    assert changed >= 8


def randomised(model: Any) -> Any:
    """The model with every adapter's weight random: some begin at zero."""
    import torch

    torch.manual_seed(2)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if any(mark in name for mark in ("lora_", "hada_", "lokr_")):
                values.copy_(0.3 * torch.randn(values.shape))
    return model


PEFT: dict[str, Callable[[], Any]] = {
    "LoRA": lambda: peft.LoraConfig(r=3, lora_alpha=5, target_modules=TARGETS),
    "LoRA of many ranks": lambda: peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=TARGETS, rank_pattern={"to_q": 2, "conv_in": 4}, alpha_pattern={"to_k": 1.5}
    ),
    "rsLoRA": lambda: peft.LoraConfig(r=4, lora_alpha=5, use_rslora=True, target_modules=TARGETS),
    "LoHa": lambda: peft.LoHaConfig(r=3, alpha=5, target_modules=TARGETS),
    "LoHa with kernels": lambda: peft.LoHaConfig(r=3, alpha=5, target_modules=TARGETS, use_effective_conv2d=True),
    "LoKr": lambda: peft.LoKrConfig(r=2, alpha=5, target_modules=TARGETS),
    "LoKr of factors": lambda: peft.LoKrConfig(r=2, alpha=5, target_modules=TARGETS, decompose_both=True),
    "LoKr with kernels": lambda: peft.LoKrConfig(
        r=2, alpha=5, target_modules=TARGETS, use_effective_conv2d=True, decompose_factor=4
    ),
}


@pytest.mark.parametrize("config", PEFT.values(), ids=PEFT.keys())
def test_what_peft_saves_is_what_peft_merges(tmp_path: Path, config: Callable[[], Any]) -> None:
    """A folder: adapter_model.safetensors, and adapter_config.json beside it, which has the scale."""
    adapted = randomised(peft.get_peft_model(network(), config()))
    adapted.save_pretrained(tmp_path / "style")
    loras = load(tmp_path / "style")
    assert loras.specs[0].name == "style"
    assert not loras.notes
    plain = network()
    assert_same(merged(loras, plain), weights_of(adapted.merge_and_unload()), weights_of(plain))
    again = load(tmp_path / "style" / "adapter_model.safetensors")
    assert again.specs[0].sha256 == loras.specs[0].sha256
    (tmp_path / "style" / "adapter_config.json").unlink()
    bare = load(tmp_path / "style")
    assert "no adapter_config.json" in bare.notes[0]
    assert bare.specs[0].sha256 != loras.specs[0].sha256


def test_a_folder_of_both_networks(tmp_path: Path) -> None:
    """As peft's examples save them, each to a folder of its own; peft names no network."""
    parts = {"unet": network(), "text_encoder": text_encoder()}
    expected = {}
    for part, module in parts.items():
        targets = TARGETS if part == "unet" else ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]
        adapted = randomised(peft.get_peft_model(module, peft.LoraConfig(r=2, lora_alpha=7, target_modules=targets)))
        adapted.save_pretrained(tmp_path / part)
        expected[part] = weights_of(adapted.merge_and_unload())
    loras = load(tmp_path)
    for part, module in (("unet", network()), ("text_encoder", text_encoder())):
        assert_same(merged(loras, module, part), expected[part], weights_of(module))


def test_an_adapters_name_in_the_tensors_names(tmp_path: Path) -> None:
    """As `state_dict` has them, which some scripts save."""
    from safetensors.torch import save_file

    adapted = randomised(peft.get_peft_model(network(), PEFT["LoHa"](), adapter_name="mine"))
    tensors = {name: values for name, values in adapted.state_dict().items() if "hada_" in name}
    assert all(name.endswith(".mine") for name in tensors)
    save_file(tensors, tmp_path / "it.safetensors")
    adapted.peft_config["mine"].save_pretrained(tmp_path)
    plain = network()
    found = merged(load(tmp_path / "it.safetensors"), plain)
    assert_same(found, weights_of(adapted.merge_and_unload()), weights_of(plain))


def test_every_layer_has_the_original_unets_name() -> None:
    """Against diffusers' own conversion of that layout, for Stable Diffusion 1.5."""
    import diffusers
    import torch
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    for config in (SD15, UNET):
        with torch.device("meta"):
            unet = diffusers.UNet2DConditionModel(**config)
        layers = [name for name, layer in unet.named_modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)]
        parameters = [f"{name}.weight" for name in layers]
        # A file of names in place of tensors: each says which layer it is to become.
        names = {f"{_original(name, parameters)}.{kind}": f"{name}.{kind}" for name in layers for kind in KINDS}
        names |= {f"out.0.{kind}": f"conv_norm_out.{kind}" for kind in KINDS}
        original = {f"model.diffusion_model.{name}": parameter for name, parameter in names.items()}
        found = convert_ldm_unet_checkpoint(dict(original), dict(unet.config))
        assert {name: found[name] for name in parameters} == {name: name for name in parameters}
        known = Layers({"unet": dict.fromkeys(parameters, (1,))})
        for layer in layers:
            bare = _original(layer, parameters)
            for spelling in (f"diffusion_model.{bare}", f"lora_unet_{bare.replace('.', '_')}"):
                assert known.find(spelling) == (Component.UNET, f"{layer}.weight")


KINDS = ("weight", "bias")
LINEAR, CONV = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.resnets.0.conv1"
PROJ = "down_blocks.0.attentions.0.proj_in"  # a 1x1 convolution


def _random(*shape: int) -> Any:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _delta(path: Path, layer: str, **given: Any) -> Any:
    (factor,) = load(path, **given).factors["unet"][f"{layer}.weight"]
    added = factor.added
    assert isinstance(added, LayerChange)
    return factor.scale * added.matrix().reshape(added.shape)


def _save(path: Path, tensors: dict[str, Any]) -> Path:
    import torch
    from safetensors.torch import save_file

    save_file({name: torch.as_tensor(value).contiguous() for name, value in tensors.items()}, path)
    return path


NAMES = {
    "ComfyUI": "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    "ComfyUI, whole": "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    "OneTrainer": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "OneTrainer, other": "unet.input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    "LyCORIS": "lycoris_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "as of XL": "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q",
    "peft in diffusers": f"unet.base_model.model.{LINEAR}",
}
TEXTS = {
    "ComfyUI": "text_encoders.clip_l.transformer.text_model.encoder.layers.1.mlp.fc1",
    "OneTrainer": "lora_te_text_model_encoder_layers_1_mlp_fc1",
    "OneTrainer, other": "clip_l.text_model.encoder.layers.1.mlp.fc1",
    "peft": "base_model.model.text_model.encoder.layers.1.mlp.fc1",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_every_tools_name_of_a_layer(tmp_path: Path, name: str) -> None:
    up, down = _random(32, 2), _random(2, 32)
    file = {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down, f"{name}.alpha": 3.0}
    found = _delta(_save(tmp_path / "it.safetensors", file), LINEAR)
    np.testing.assert_allclose(found, 1.5 * (up @ down), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TEXTS.values(), ids=TEXTS.keys())
def test_every_tools_name_of_a_text_encoders_layer(tmp_path: Path, name: str) -> None:
    file = {f"{name}.lora_up.weight": _random(40, 2), f"{name}.lora_down.weight": _random(2, 24)}
    found = load(_save(tmp_path / "it.safetensors", file)).factors
    assert [*found["text_encoder"]] == ["text_model.encoder.layers.1.mlp.fc1.weight"]


def test_ranks_without_alphas_have_the_scale_1(tmp_path: Path) -> None:
    """As kohya-ss' and ComfyUI's loaders have it: alpha is the rank where none is given."""
    tensors: dict[str, Any] = {}
    for rank, name in ((2, LINEAR), (5, f"{LINEAR[:-1]}k")):
        tensors |= {f"unet.{name}.lora_A.weight": _random(rank, 32), f"unet.{name}.lora_B.weight": _random(32, rank)}
    path = _save(tmp_path / "it.safetensors", tensors | {f"unet.{LINEAR}.alpha": 4.0})
    np.testing.assert_allclose(_delta(path, LINEAR), 2 * (_random(32, 2) @ _random(2, 32)), rtol=1e-5, atol=1e-5)
    path = _save(tmp_path / "it.safetensors", tensors)
    found = _delta(path, f"{LINEAR[:-1]}k")
    np.testing.assert_allclose(found, _random(32, 5) @ _random(5, 32), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", [PROJ, LINEAR])
def test_a_1x1_convolution_is_a_linear_layer(tmp_path: Path, layer: str) -> None:
    up, down = _random(32, 3), _random(3, 32)
    flat = {f"unet.{layer}.lora_B.weight": up, f"unet.{layer}.lora_A.weight": down}
    kernels = {name: values[:, :, None, None] for name, values in flat.items()}
    found = [_delta(_save(tmp_path / "it.safetensors", tensors), layer) for tensors in (flat, kernels)]
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0].reshape(32, 32), up @ down, rtol=1e-5, atol=1e-5)


def test_the_first_layer_of_a_text_to_image_network(tmp_path: Path) -> None:
    """On a wider network, for editing or inpainting, it changes what is done to the noisy latents, as on its own."""
    import torch

    adapted = randomised(peft.get_peft_model(network(), peft.LoraConfig(r=2, target_modules=["conv_in", "to_q"])))
    adapted.save_pretrained(tmp_path)
    latents, times, text = _random(1, 4, 8, 8), torch.tensor([400]), _random(1, 7, 24)
    with torch.no_grad():
        expected = adapted(latents, times, text).sample
        for channels in (8, 9):
            wide, plain = network(in_channels=channels), network()
            weights = plain.state_dict()
            kernel = weights["conv_in.weight"]
            weights["conv_in.weight"] = torch.cat([kernel, _random(32, channels - 4, 3, 3)], dim=1)
            wide.load_state_dict(weights)
            loras = load(tmp_path, unet=wide)
            for name, values in merged(loras, wide).items():
                wide.get_parameter(name).copy_(torch.from_numpy(values))
            beside = torch.zeros(1, channels - 4, 8, 8)
            found = wide(torch.cat([latents, beside], dim=1), times, text).sample
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.abs().max())
            np.testing.assert_array_equal(wide.conv_in.weight[:, 4:].detach(), weights["conv_in.weight"][:, 4:])


LYCORIS: dict[str, tuple[dict[str, tuple[int, ...]], float]] = {
    # Shapes as LyCORIS 4 writes them for a layer of [32, 32, 3, 3], and alpha / rank of alpha 3.
    "LoCon": ({"lora_up.weight": (32, 2, 1, 1), "lora_down.weight": (2, 32, 3, 3)}, 1.5),
    "LoCon with a kernel": (
        {"lora_up.weight": (32, 2, 1, 1), "lora_mid.weight": (2, 2, 3, 3), "lora_down.weight": (2, 32, 1, 1)},
        1.5,
    ),
    "LoHa": ({"hada_w1_a": (32, 2), "hada_w1_b": (2, 288), "hada_w2_a": (32, 2), "hada_w2_b": (2, 288)}, 1.5),
    "LoHa with kernels": (
        {f"hada_w{i}_{part}": (2, 32) for i in (1, 2) for part in "ab"} | {f"hada_t{i}": (2, 2, 3, 3) for i in (1, 2)},
        1.5,
    ),
    "LoKr, whole": ({"lokr_w1": (4, 8), "lokr_w2": (8, 4, 3, 3)}, 1.0),
    "LoKr": ({"lokr_w1": (4, 8), "lokr_w2_a": (8, 2), "lokr_w2_b": (2, 4, 3, 3)}, 1.5),
    "LoKr with a kernel": (
        {"lokr_w1_a": (4, 2), "lokr_w1_b": (2, 8), "lokr_t2": (2, 2, 3, 3), "lokr_w2_a": (2, 8), "lokr_w2_b": (2, 4)},
        1.5,
    ),
}


def _published(t: dict[str, Any]) -> Any:
    """The change of a convolution by the papers' formulas, element by element over the kernel's positions."""
    import torch

    def chain(kernel: Any, a: Any, b: Any) -> Any:
        return torch.stack([a.T @ kernel[:, :, y, x] @ b for y in range(3) for x in range(3)], -1).reshape(
            a.shape[1], b.shape[1], 3, 3
        )

    if "lora_mid.weight" in t:
        return chain(t["lora_mid.weight"], t["lora_up.weight"][:, :, 0, 0].T, t["lora_down.weight"][:, :, 0, 0])
    if "lora_up.weight" in t:
        return torch.einsum("or,rikl->oikl", t["lora_up.weight"][:, :, 0, 0], t["lora_down.weight"])
    if "hada_t1" in t:
        return chain(t["hada_t1"], t["hada_w1_a"], t["hada_w1_b"]) * chain(t["hada_t2"], t["hada_w2_a"], t["hada_w2_b"])
    if "hada_w1_a" in t:
        return ((t["hada_w1_a"] @ t["hada_w1_b"]) * (t["hada_w2_a"] @ t["hada_w2_b"])).reshape(32, 32, 3, 3)
    w1 = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    if "lokr_t2" in t:
        w2 = chain(t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    else:
        w2 = t["lokr_w2"] if "lokr_w2" in t else torch.einsum("or,rikl->oikl", t["lokr_w2_a"], t["lokr_w2_b"])
    return torch.stack([torch.kron(w1, w2[:, :, y, x]) for y in range(3) for x in range(3)], -1).reshape(32, 32, 3, 3)


@pytest.mark.parametrize("case", LYCORIS.values(), ids=LYCORIS.keys())
def test_what_lycoris_writes(tmp_path: Path, case: tuple[dict[str, tuple[int, ...]], float]) -> None:
    shapes, scale = case
    tensors = {name: _random(*shape) for name, shape in shapes.items()}
    flat = f"lora_unet_{CONV.replace('.', '_')}"
    file = {f"{flat}.{name}": values for name, values in tensors.items()} | {f"{flat}.alpha": 3.0}
    expected = scale * _published(tensors)
    found = _delta(_save(tmp_path / "it.safetensors", file), CONV)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * expected.abs().max())


def test_bundled_embeddings_are_left_out_and_told(tmp_path: Path) -> None:
    file = {f"unet.{LINEAR}.lora_A.weight": _random(2, 32), f"unet.{LINEAR}.lora_B.weight": _random(32, 2)}
    file |= {"bundle_emb.cat.string_to_param.*": _random(3, 24), "bundle_emb.<dog>.clip_l": _random(1, 24)}
    loras = load(_save(tmp_path / "it.safetensors", file))
    assert loras.notes == ("it.safetensors brings embeddings, which are left out: <dog>, cat",)


def test_the_text_encoder_has_a_scale_of_its_own(tmp_path: Path) -> None:
    """diffusers' `set_adapters` with a scale for each network, and the merged weights."""
    text = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    file = {f"unet.{LINEAR}.lora_A.weight": _random(2, 32), f"unet.{LINEAR}.lora_B.weight": _random(32, 2)}
    file |= {f"{text}.lora_A.weight": _random(2, 24), f"{text}.lora_B.weight": _random(24, 2)}
    path = _save(tmp_path / "it.safetensors", file)
    loras = load_loras([(path, 0.8, 0.5)], shapes_of(unet=network(), text_encoder=text_encoder()), "it")
    for part, scale in (("unet", 0.8), ("text_encoder", 0.5)):
        ((factor,),) = loras.factors[part].values()
        assert factor.scale == scale
    (spec,) = loras.specs
    assert spec.facts() == {"name": path.name, "sha256": spec.sha256, "scale": 0.8, "text_encoder_scale": 0.5}
    (alike,) = load_loras([(path, 0.8, 0.8)], shapes_of(unet=network(), text_encoder=text_encoder()), "it").specs
    assert json.dumps(alike.facts()).count("scale") == 1
