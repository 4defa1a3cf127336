"""A training run small enough for a test: the procedural world at 32 pixels and networks of some thousand weights."""

from pathlib import Path
from typing import Any

from PIL import Image

from pixrt_export.training.plan import DataOptions, PreviewOptions, TrainingPlan

NETWORKS: dict[str, dict[str, Any]] = {
    "vae": {
        "down_block_types": ["DownEncoderBlock2D"] * 3,
        "up_block_types": ["UpDecoderBlock2D"] * 3,
        "block_out_channels": [8, 8, 16],
        "layers_per_block": 1,
        "norm_num_groups": 2,
        "mid_block_add_attention": False,
        "sample_size": 32,
    },
    "unet": {
        "sample_size": 8,
        "in_channels": 8,
        "out_channels": 4,
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    },
    "scheduler": {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "prediction_type": "v_prediction",
    },
}
DATA = {"size": 32, "count": 48, "captions": 0.2}
PREVIEW = {"steps": 2, "guidance_scale": 2.0, "image_guidance_scale": 1.5, "scenes": 4}
LOOP = {"steps": 6, "batch_size": 4, "warmup_steps": 2, "checkpoint_every": 2, "sample_every": 0, "learning_rate": 1e-3}


class Silent:
    """An observer that remembers, and stops the run after step `stop_at`."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: dict[int, float] = {}
        self.metrics: dict[int, dict[str, float]] = {}
        self.pictures: dict[int, Image.Image] = {}
        self.saves: list[int] = []
        self.first = -1
        self.stop_at = stop_at

    def encoded(self, done: int, total: int) -> None:
        pass

    def started(self, step: int, steps: int) -> None:
        self.first = step

    def stepped(self, report: Any) -> None:
        self.losses[report.step] = report.loss

    def sampled(self, step: int, preview: Any) -> None:
        self.metrics[step], self.pictures[step] = preview.metrics, preview.picture

    def saved(self, step: int, folder: Path) -> None:
        self.saves.append(step)

    def should_stop(self) -> bool:
        return max(self.losses, default=0) == self.stop_at


def plan_of(kind: type[Any], output: Path, checkpoint: str | None = None, **training: Any) -> TrainingPlan[Any]:
    """What one stage is to do: on the networks above, or on those of a checkpoint."""
    networks = {} if checkpoint else NETWORKS
    options = kind(**{**LOOP, **training})
    return TrainingPlan(output, checkpoint, networks, DataOptions(**DATA), PreviewOptions(**PREVIEW), options)


def train(stage: str, plan: TrainingPlan[Any], observer: Silent | None = None) -> Path | None:
    """Run `train_autoencoder`, `train_edit` or `train_lora` in this process."""
    from pixrt_export.training.run import run_stage

    return run_stage(stage, plan, observer or Silent())  # type: ignore[arg-type]


def weights_of(model: Path) -> dict[str, Any]:
    """Every tensor of a diffusers folder, by `component/name`."""
    from safetensors.torch import load_file

    return {
        f"{path.parent.name}/{name}": tensor
        for path in sorted(model.glob("*/*.safetensors"))
        for name, tensor in load_file(path).items()
    }
