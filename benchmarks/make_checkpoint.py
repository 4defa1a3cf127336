"""A random-weight InstructPix2Pix checkpoint of full size, in diffusers' format, for measuring export and speed.

    python benchmarks/make_checkpoint.py FOLDER

The configs are those of Stable Diffusion 1.5 with an 8-channel UNet: 860 M parameters in the UNet, ViT-L text encoder,
KL VAE. The weights are diffusers' own initial values, seeded; the pictures mean nothing, the work is the real one.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated

import diffusers
import torch
import transformers
import typer

TOKENIZER = Path(__file__).parent.parent / "tests" / "data" / "demo_checkpoint" / "tokenizer"
UNET = {
    "in_channels": 8,
    "out_channels": 4,
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "prediction_type": "epsilon",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}


def main(folder: Annotated[Path, typer.Argument(help="Where to write it (5 GB).")]) -> None:
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(**UNET)
    unet.save_pretrained(folder / "unet")
    count = sum(weights.numel() for weights in unet.parameters())
    del unet
    diffusers.AutoencoderKL(**VAE).save_pretrained(folder / "vae")
    transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT)).save_pretrained(folder / "text_encoder")
    diffusers.EulerAncestralDiscreteScheduler.from_config(SCHEDULER).save_pretrained(folder / "scheduler")
    shutil.copytree(TOKENIZER, folder / "tokenizer", dirs_exist_ok=True)
    index = {
        "_class_name": "StableDiffusionInstructPix2PixPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    print(f"{folder}: UNet with {count / 1e6:.0f} M parameters")


if __name__ == "__main__":
    typer.run(main)
