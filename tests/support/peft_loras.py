"""LoRA files made by peft and saved by diffusers, exports of checkpoints, and what their networks compute."""

from pathlib import Path
from typing import Any

import numpy as np

from pixrt import Editor
from pixrt.bundles.manifest import Component
from pixrt.core.prompts import Piece, Prompt
from pixrt.core.timing import Stopwatch

Array = np.ndarray[Any, Any]
UNET = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "conv1", "conv_in", "proj_in", "time_emb_proj"]
LORA = "pytorch_lora_weights.safetensors"
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"]


def make_lora(
    checkpoint: Path, folder: Path, *, seed: int, metadata: bool = True, text: bool = True, **config: Any
) -> Path:
    """A LoRA of random weights, made by peft and saved by diffusers."""
    import diffusers
    import torch
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(checkpoint, safety_checker=None)
    options = {"r": 3, "lora_alpha": 5, "init_lora_weights": False} | config
    torch.manual_seed(seed)
    parts = {"unet": UNET} | ({"text_encoder": TEXT} if text else {})
    saved: dict[str, Any] = {}
    for part, targets in parts.items():
        module = getattr(pipeline, part)
        module.add_adapter(LoraConfig(target_modules=targets, **options))
        with torch.no_grad():
            for name, values in module.named_parameters():
                if "lora_" in name:
                    values.copy_(0.1 * torch.randn(values.shape))
        saved[f"{part}_lora_layers"] = get_peft_model_state_dict(module)
        if metadata:
            saved[f"{part}_lora_adapter_metadata"] = module.peft_config["default"].to_dict()
    pipeline.save_lora_weights(folder, **saved)
    return folder / LORA


def export(checkpoint: Path, output: Path, **options: Any) -> Path:
    from pixrt_export import ExportOptions, export_checkpoint

    export_checkpoint(
        ExportOptions(checkpoint=str(checkpoint), output=output, **options), on_progress=lambda stage: None
    )
    return output


def outputs(editor: Editor) -> tuple[Array, Array]:
    """What the UNet and the text encoder of an editor compute on fixed inputs."""
    networks, clock = editor._networks, Stopwatch()
    ids = tuple(range(77))
    text = networks.encoders.text(Prompt(((1.0, (Piece(ids),)),), ids), clock)
    feeds = unet_inputs(text)
    engine = networks._engines.get(Component.UNET, clock)
    result = np.zeros((2, 4, 8, 8), np.dtype(engine.outputs[0].dtype))
    given = {spec.name: feeds[spec.name].astype(spec.dtype) for spec in engine.inputs}
    engine.bind(given | {"out_sample": result})()
    return result, text.copy()


def unet_inputs(text: Array) -> dict[str, Array]:
    sample = np.random.default_rng(3).standard_normal((2, 8, 8, 8)).astype(np.float32)
    context = np.stack([text, text[::-1]])
    return {"sample": sample, "timestep": np.float32([10, 700]), "encoder_hidden_states": context}
