"""Who makes the same edit in `peers.py`: how each opens a checkpoint or a bundle, and edits.

Every side gets the same picture, instruction and noise: `pixrt.maths.noise` draws it, except for stable-diffusion.cpp,
which draws its own as PyTorch does. What a side cannot do here is raised as NotRun, with the reason.
"""

import contextlib
import dataclasses
import functools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
# In what a side computes; "default" is what OpenVINO chooses, BF16 where the processor has it.
FORMATS = ("FP32", "BF16", "INT8")


class NotRun(Exception):
    """Why a side is not measured."""


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What all sides do alike; `folder` keeps what was converted."""

    checkpoint: Path
    folder: Path
    size: int
    steps: int
    scheduler: str
    guidance_scale: float
    image_guidance_scale: float
    threads: int
    rows: int = 3  # of the network where it alone is measured


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """A picture, and seconds from one step's end to the next's."""

    picture: Pixels
    steps_s: tuple[float, ...]
    network_rows: int | None = None  # where a side counts them


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """What was opened. `network` runs the UNet once on `Work.rows`, where it can be had by itself."""

    edit: Callable[[Image.Image, str, int], Made]
    network: Callable[[], object] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """A side by name, what it computes in, and how it is opened, in a process of its own."""

    name: str
    format: str
    open: Callable[[Work], Side]
    noise: str = "pixrt"  # or "torch"


def network_inputs(work: Work, channels: int, scale: int, width: int) -> tuple[NDArray[np.float32], ...]:
    """Sample `[rows, channels, h, w]`, timestep `[rows]` and the text's states `[rows, 77, width]`, seeded."""
    drawn = np.random.default_rng(0)
    side = work.size // scale
    return (
        drawn.standard_normal((work.rows, channels, side, side), np.float32),
        np.full(work.rows, 500, np.float32),
        drawn.standard_normal((work.rows, 77, width), np.float32),
    )


def open_diffusers(work: Work, *, bf16: bool = False, compiled: bool = False, noise: str = "pixrt") -> Side:
    """diffusers' own pipeline on PyTorch."""
    import torch

    from parity import load_pipeline

    if compiled and shutil.which("g++") is None:
        raise NotRun("torch.compile needs g++, which is not here")
    torch.set_num_threads(work.threads)
    pipeline = load_pipeline(work.checkpoint)
    if bf16:
        pipeline.to(torch.bfloat16)
    if compiled:
        pipeline.unet = torch.compile(pipeline.unet)
    return of_pipeline(pipeline, work, noise)


def of_pipeline(pipeline: Any, work: Work, noise: str = "pixrt") -> Side:
    """A side of a pipeline of diffusers, whatever runs its networks."""
    import diffusers
    import torch

    from oracle import DIFFUSERS, noise_of
    from parity import draws

    name, settings = DIFFUSERS[work.scheduler]
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **settings)
    scale, channels = pipeline.vae_scale_factor, pipeline.vae.config.latent_channels
    shape = (channels, work.size // scale, work.size // scale)

    def edit(picture: Image.Image, text: str, seed: int) -> Made:
        ends: list[float] = []

        def stepped(pipe: Any, index: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
            ends.append(time.perf_counter())
            return values

        given: dict[str, Any] = {"generator": torch.Generator().manual_seed(seed)}
        drawn: Any = contextlib.nullcontext()
        if noise == "pixrt":
            own = torch.from_numpy(noise_of([seed], 2 + work.steps, shape)).to(pipeline.unet.dtype)
            given, drawn = {"latents": own[0].clone()}, draws(type(pipeline.scheduler), iter(own[1:]))
        with drawn:
            made = pipeline(
                text,
                image=picture,
                num_inference_steps=work.steps,
                guidance_scale=work.guidance_scale,
                image_guidance_scale=work.image_guidance_scale,
                callback_on_step_end=stepped,
                **given,
            )
        return Made(np.asarray(made.images[0]), tuple(np.diff(ends)))

    config = pipeline.unet.config
    inputs = network_inputs(work, config.in_channels, scale, config.cross_attention_dim)
    sample, timestep, states = (torch.from_numpy(each).to(pipeline.unet.dtype) for each in inputs)

    def network() -> object:
        with torch.no_grad():
            return pipeline.unet(sample, timestep.float(), states, return_dict=False)

    return Side(edit, network)


def open_optimum(work: Work) -> Side:
    """ONNX Runtime behind diffusers' pipelines; of those it has, none edits after an instruction."""
    import optimum.onnxruntime

    named = [name for name in dir(optimum.onnxruntime) if "InstructPix2Pix" in name]
    if not named:
        raise NotRun("optimum's ONNX Runtime pipelines have none for InstructPix2Pix")
    cls = getattr(optimum.onnxruntime, named[0])
    return of_pipeline(cls.from_pretrained(work.checkpoint, export=True), work)


def open_stable_diffusion_cpp(work: Work) -> Side:
    """The Python wheel of stable-diffusion.cpp, in FP32, its noise drawn as PyTorch draws it."""
    try:
        from stable_diffusion_cpp import StableDiffusion
    except ImportError as error:
        raise NotRun("stable-diffusion-cpp-python is not installed") from error
    methods = {"euler": "euler", "euler_ancestral": "euler_a"}
    if work.scheduler not in methods:
        raise NotRun(f"it has no {work.scheduler} that computes as diffusers' does")
    unet = json.loads((work.checkpoint / "unet" / "config.json").read_text())
    vae = json.loads((work.checkpoint / "model_index.json").read_text())["vae"][1]
    if unet["block_out_channels"] != [320, 640, 1280, 1280] or vae != "AutoencoderKL":
        raise NotRun("it knows Stable Diffusion's own sizes of networks only")
    model = StableDiffusion(
        model_path=str(work.checkpoint),
        n_threads=work.threads,
        wtype="f32",
        rng_type="cpu",
        sampler_rng_type="cpu",
        verbose=False,
    )

    def edit(picture: Image.Image, text: str, seed: int) -> Made:
        ends: list[float] = []
        (made,) = model.generate_image(
            text,
            ref_images=[picture],
            width=work.size,
            height=work.size,
            cfg_scale=work.guidance_scale,
            image_cfg_scale=work.image_guidance_scale,
            sample_method=methods[work.scheduler],
            sample_steps=work.steps,
            seed=seed,
            progress_callback=lambda step, steps, seconds: ends.append(time.perf_counter()),
        )
        return Made(np.asarray(made.convert("RGB")), tuple(np.diff(ends)))

    return Side(edit, None)


def open_pixrt(work: Work, *, bundle: str, backend: str, precision: str, preset: str | None = None) -> Side:
    """A bundle; with a preset its own steps, solver and guidance take the place of `work`'s."""
    from pixrt import Editor
    from pixrt.backends.registry import open_backend
    from pixrt.bundles.manifest import TENSORS, Component
    from pixrt.bundles.store import open_bundle
    from pixrt.errors import PixrtError
    from pixrt.options.session import SessionOptions

    session = SessionOptions(backend=backend, threads=work.threads, cpu_precision=precision)  # type: ignore[arg-type]
    try:
        editor = Editor(bundle, session)
    except PixrtError as error:
        raise NotRun(str(error)) from error
    parameters: dict[str, Any] = {
        "steps": work.steps,
        "scheduler": work.scheduler,
        "guidance_scale": work.guidance_scale,
        "image_guidance_scale": work.image_guidance_scale,
    }
    if preset is not None:
        parameters = {"preset": preset}

    def edit(picture: Image.Image, text: str, seed: int) -> Made:
        ends: list[float] = []
        try:
            result = editor.edit(
                picture,
                text,
                seed=seed,
                resolution=work.size,
                on_step=lambda info: ends.append(time.perf_counter()),
                **parameters,
            )
        except PixrtError as error:
            raise NotRun(str(error)) from error
        return Made(np.asarray(result.image), tuple(np.diff(ends)), result.network_rows)

    def bound() -> Callable[[], object]:
        opened = open_bundle(bundle)
        manifest, engine = opened.manifest, open_backend(backend, opened, session).backend.open(opened, Component.UNET)
        spec = manifest.component(Component.UNET)
        width = next(each.shape[-1] for each in spec.inputs if each.name == "encoder_hidden_states")
        inputs = network_inputs(work, manifest.unet_in_channels, manifest.latents.scale, int(width))
        tensors = dict(zip(("sample", "timestep", "encoder_hidden_states"), inputs, strict=True))
        (output,) = TENSORS[Component.UNET][1]
        side = work.size // manifest.latents.scale
        return engine.bind(
            {**tensors, output: np.empty((work.rows, manifest.latents.channels, side, side), np.float32)}
        )

    found: list[Callable[[], object]] = []

    def network() -> object:
        if not found:
            found.append(bound())
        return found[0]()

    return Side(edit, network)


def peers(bundles: Sequence[str], presets: Sequence[str]) -> list[Peer]:
    """All sides; the first is what the others are compared with."""
    from peer_openvino import open_openvino
    from pixrt.bundles.store import open_bundle

    part = functools.partial
    found = [
        Peer("diffusers FP32", "FP32", open_diffusers),
        Peer("diffusers BF16", "BF16", part(open_diffusers, bf16=True)),
        Peer("diffusers FP32, torch.compile", "FP32", part(open_diffusers, compiled=True)),
        Peer("diffusers BF16, torch.compile", "BF16", part(open_diffusers, bf16=True, compiled=True)),
        Peer("OpenVINO's notebook FP32", "FP32", part(open_openvino, precision="fp32")),
        Peer("OpenVINO's notebook BF16", "BF16", part(open_openvino, precision="bf16")),
        Peer("optimum FP32", "FP32", open_optimum),
        Peer("stable-diffusion.cpp FP32", "FP32", open_stable_diffusion_cpp, noise="torch"),
    ]
    for bundle in bundles:
        precision = open_bundle(bundle, verify=False).manifest.precision
        ways = [("ort-cpu", "fp32", "FP32"), ("openvino", "fp32", "FP32"), ("openvino", "bf16", "BF16")]
        if precision == "int8":
            ways = [("openvino", "fp32", "INT8"), ("openvino", "bf16", "INT8")]
        note = "" if precision in ("fp32", "int8") else f", {precision}"
        for backend, computes, format_ in ways:
            beside = " beside BF16" if format_ == "INT8" and computes == "bf16" else ""
            for preset in (None, *presets):
                if preset is not None and backend == "ort-cpu":
                    continue
                name = f"pixrt {backend} {format_}{beside}{note}{'' if preset is None else f', {preset}'}"
                found.append(
                    Peer(
                        name,
                        format_,
                        part(open_pixrt, bundle=bundle, backend=backend, precision=computes, preset=preset),
                    )
                )
    return found
