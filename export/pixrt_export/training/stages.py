"""The three kinds of training, from plan to result."""

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler
from transformers import CLIPTextModel

from pixrt.bundles.tokenizer import Tokenizer
from pixrt.options.tasks import EditOptions
from pixrt_export.checkpoint import Checkpoint
from pixrt_export.opening import open_checkpoint
from pixrt_export.training.autoencoder import AutoencoderJob
from pixrt_export.training.edit import EditJob, EditNetwork
from pixrt_export.training.latents import Latents, cached_latents, encoded_mean
from pixrt_export.training.loop import Observer, train
from pixrt_export.training.lora import FILE, add_lora, lora_prior, save_lora
from pixrt_export.training.networks import load_autoencoder, load_for_editing, load_for_lora, new_checkpoint
from pixrt_export.training.options import AutoencoderOptions, EditTrainingOptions, LoraOptions
from pixrt_export.training.output import write_checkpoint
from pixrt_export.training.plan import TrainingPlan
from pixrt_export.training.previews import edit_preview
from pixrt_export.training.torch_editor import TorchEditor

SCALING_SAMPLES = 1024
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


def train_autoencoder(plan: TrainingPlan[AutoencoderOptions], observer: Observer) -> Path | None:
    """Train the autoencoder of a model on the targets of a training set.

    Returns the new checkpoint, whose VAE config has the scaling factor of its latents (its own one if the encoder
    stays as it is); None if the run was stopped. Raises what `train` raises, CheckpointError and DataError.
    """
    options, pairs = plan.training, plan.data.open()
    start = starting_point(plan)
    vae = load_autoencoder(start)
    if options.decoder_only:
        for name, parameter in vae.named_parameters():
            parameter.requires_grad_(name.startswith(("decoder", "post_quant_conv")))
    job = AutoencoderJob(vae, pairs, plan.data.size, options)
    if not train(job, options, plan.output / "checkpoints", observer):
        return None
    if not options.decoder_only:
        vae.register_to_config(scaling_factor=_scaling_factor(vae, job))
    return finish(plan, start, {"vae": vae}, start.instructions)


@torch.no_grad()
def _scaling_factor(vae: AutoencoderKL | AutoencoderTiny, job: AutoencoderJob) -> float:
    """What gives the latents of the job's pictures a standard deviation of 1."""
    count = min(SCALING_SAMPLES, len(job))
    batches = (job.load(range(k, min(k + 32, count))) for k in range(0, count, 32))
    means = torch.cat([encoded_mean(vae, batch.to(vae.device)).cpu() for batch in batches])
    return float(1 / means.std())


def train_edit(plan: TrainingPlan[EditTrainingOptions], observer: Observer) -> Path | None:
    """Train a model's UNet, and its text encoder if the options say so, to edit.

    A text-to-image UNet gets input channels for the source first. Returns the new checkpoint; None if the run was
    stopped. Raises what `train` raises, CheckpointError and DataError.
    """
    options = plan.training
    start = starting_point(plan)
    network = EditNetwork(load_for_editing(start), start.load("text_encoder"))
    if not options.train_text_encoder:
        network.text_encoder.requires_grad_(False)
    job = edit_job(plan, start, network, observer)
    if not train(job, options, plan.output / "checkpoints", observer):
        return None
    if options.zero_unseen:
        zero_unseen(network.text_encoder, job)
    trained = {"unet": network.unet}
    if options.train_text_encoder or options.zero_unseen:
        trained["text_encoder"] = network.text_encoder
    judged = plan.data.held_out(1)
    return finish(plan, start, trained, judged.known() if judged else {})


@torch.no_grad()
def zero_unseen(text_encoder: CLIPTextModel, job: EditJob) -> None:
    """Zero the embeddings of tokens that no sample has: they are noise, and zeros compress."""
    seen = {token for index in range(len(job)) for token in job.encode(job.pairs.instruction(index))}
    table = text_encoder.get_input_embeddings().weight  # [V, D]
    kept = torch.zeros(len(table), 1, dtype=table.dtype, device=table.device)
    kept[sorted(seen | set(job.null.tolist()))] = 1
    table *= kept


def train_lora(plan: TrainingPlan[LoraOptions], observer: Observer) -> Path | None:
    """Train a LoRA for an editing model on the attention of its UNet, and of its text encoder if the options say so.

    Returns the safetensors file; None if the run was stopped. Raises what `train` raises, CheckpointError and
    DataError.
    """
    options = plan.training
    start = starting_point(plan)
    network = EditNetwork(load_for_lora(start), start.load("text_encoder"))
    torch.manual_seed(options.seed)
    add_lora(network, options)
    job = edit_job(plan, start, network, observer)
    job.prior = lora_prior(network, options, job.encode)
    if not train(job, options, plan.output / "checkpoints", observer):
        return None
    return save_lora(network, plan.output) if PartialState().is_main_process else plan.output / FILE


def edit_job(plan: TrainingPlan[Any], start: Checkpoint, network: EditNetwork, observer: Observer) -> EditJob:
    """What editing is learned from: latents, texts, and a preview of the networks at work."""
    pairs, options = plan.data.open(), plan.training
    state = PartialState()
    vae = start.load("vae").to(state.device)
    with state.main_process_first():
        latents: Latents = cached_latents(vae, pairs, plan.data.size, plan.output / "latents", observer.encoded)
    if options.gradient_checkpointing:
        network.unet.enable_gradient_checkpointing()
    tokenizer = Tokenizer(start.folder / "tokenizer", start.tokenizer())
    resolved = EditOptions(
        steps=plan.preview.steps,
        guidance_scale=plan.preview.guidance_scale,
        image_guidance_scale=plan.preview.image_guidance_scale,
        scheduler=plan.preview.scheduler,  # type: ignore[arg-type]  # EditOptions checks it
    )
    editor = TorchEditor(network.unet, network.text_encoder, vae, tokenizer, start.scheduler, resolved)
    return EditJob(
        network=network,
        pairs=pairs,
        latents=latents,
        scheduler=DDPMScheduler.from_config(start.scheduler),
        scaling_factor=start.scaling_factor,
        encode=lambda text: tokenizer.encode(text).ids,
        options=options,
        preview=edit_preview(editor, pairs, plan.data, plan.preview.scenes),
    )


def starting_point(plan: TrainingPlan[Any]) -> Checkpoint:
    """The model a run starts from: the given checkpoint, or a new one, kept in the run's folder."""
    if plan.checkpoint:
        return open_checkpoint(plan.checkpoint)
    folder = plan.output / "start"
    with PartialState().main_process_first():
        if not (folder / "model_index.json").is_file():
            new_checkpoint(plan.networks, plan.training.seed, folder)
    return open_checkpoint(str(folder))


def finish(
    plan: TrainingPlan[Any], start: Checkpoint, trained: dict[str, Any], instructions: dict[str, tuple[str, ...]]
) -> Path:
    """Write the trained model, and what it was taught to edit by, beside the run's checkpoints."""
    target = plan.output / "model"
    if PartialState().is_main_process:
        write_checkpoint(target, start, trained, DTYPES[plan.training.weights], instructions)
    return target
