"""A tiny CLIPModel with random weights, in transformers' folder format, with CLIP's own vocabulary."""

from pathlib import Path

from pixrt.bundles.store import BUILT_IN

SIDE = 32


def make_clip(folder: Path) -> Path:
    """Write it. Needs PyTorch."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast

    layers = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vocabulary = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    config = CLIPConfig(
        text_config={**layers, **vocabulary},
        vision_config={**layers, "image_size": SIDE, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    model = CLIPModel(config)
    with torch.no_grad():  # the usual start is so small that every picture looks alike
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    vocabulary = BUILT_IN / "shapes"
    CLIPTokenizerFast(str(vocabulary / "vocab.json"), str(vocabulary / "merges.txt")).save_pretrained(folder)
    return folder
