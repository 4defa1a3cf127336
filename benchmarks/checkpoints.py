"""Random-weight checkpoints in diffusers' format: of full size, and small ones of every shape the exporter takes."""

import shutil
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "tests" / "data"
TOKENIZER = DATA / "shapes_checkpoint" / "tokenizer"

UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (16, 32, 32),
    "layers_per_block": 1,
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
SD2_UNET = UNET | {"use_linear_projection": True, "attention_head_dim": (2, 4, 4), "cross_attention_dim": 32}
VAE: dict[str, Any] = {
    "block_out_channels": (8, 16, 16, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.18215,
}
TINY_VAE: dict[str, Any] = {
    "encoder_block_out_channels": (8, 8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8, 8),
    "num_encoder_blocks": (1, 1, 1, 1),
    "num_decoder_blocks": (1, 1, 1, 1),
}
# As the model for photographs has them: a tiny autoencoder that halves the sides, and the text beside the timestep.
PHOTO_VAE = {key: value[:2] for key, value in TINY_VAE.items()} | {"latent_channels": 8, "scaling_factor": 2.5}
PHOTO_UNET = UNET | {
    "in_channels": 16,
    "out_channels": 8,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "resnet_time_scale_shift": "scale_shift",
    "down_block_types": ("DownBlock2D",) * 3,
    "up_block_types": ("UpBlock2D",) * 3,
}
TEXT: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "projection_dim": 24,
    "hidden_act": "quick_gelu",
    "vocab_size": 49408,
}
SD2_TEXT = TEXT | {"hidden_size": 32, "hidden_act": "gelu", "num_hidden_layers": 3}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "prediction_type": "epsilon",
    # What the hub's InstructPix2Pix says for other schedulers than its own.
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}
FULL_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 8,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
FULL_VAE = VAE | {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 512,
}
FULL_TEXT = TEXT | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
KINDS: dict[str, dict[str, Any]] = {
    # Stable Diffusion 1.5 with an 8-channel UNet of 860 M parameters, as InstructPix2Pix has it.
    "full": {"unet": FULL_UNET, "vae": FULL_VAE, "text": FULL_TEXT},
    "sd1": {},
    "sd2": {
        "unet": SD2_UNET,
        "text": SD2_TEXT,
        "scheduler": {"prediction_type": "v_prediction"},
        "tokenizer": {"pad_token": "!"},
    },
    "text_to_image": {"unet": UNET | {"in_channels": 4}},
    "inpainting": {"unet": UNET | {"in_channels": 9}},
    "tiny_vae": {"tiny_vae": TINY_VAE},
    "photo": {"unet": PHOTO_UNET, "tiny_vae": PHOTO_VAE, "scheduler": {"prediction_type": "v_prediction"}},
}


def make_checkpoint(kind: str, folder: Path, *, seed: int = 0, **save: Any) -> Path:
    """Write a checkpoint of `kind` into `folder` with diffusers itself; `save` goes to its `save_pretrained`."""
    import diffusers
    import torch
    import transformers

    parts = KINDS[kind]
    torch.manual_seed(seed)
    vae = (
        diffusers.AutoencoderTiny(**parts["tiny_vae"])
        if "tiny_vae" in parts
        else diffusers.AutoencoderKL(**parts.get("vae", VAE))
    )
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**parts.get("text", TEXT))),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(TOKENIZER, **parts.get("tokenizer", {})),
        unet=diffusers.UNet2DConditionModel(**parts.get("unet", UNET)),
        scheduler=diffusers.EulerAncestralDiscreteScheduler.from_config(SCHEDULER | parts.get("scheduler", {})),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, **save)
    return folder


def copy_shapes(folder: Path) -> Path:
    """The checkpoint of the built-in model `shapes`, to be damaged."""
    shutil.copytree(DATA / "shapes_checkpoint", folder)
    return folder
