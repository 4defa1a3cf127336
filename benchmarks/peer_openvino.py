"""OpenVINO as its notebook of InstructPix2Pix runs it: networks by `ov.convert_model`, diffusers' loop around them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from peer_sides import NotRun, Side, Work, network_inputs, of_pipeline


def convert_to_openvino(work: Work) -> None:
    """What OpenVINO's notebook does first: every network by `ov.convert_model`, weights kept in FP32."""
    import openvino
    import torch

    from parity import load_pipeline

    target = work.folder / "openvino"
    if (target / "unet.xml").exists():
        return
    pipeline = load_pipeline(work.checkpoint)
    config, scale = pipeline.unet.config, pipeline.vae_scale_factor
    sample, timestep, states = map(
        torch.from_numpy, network_inputs(work, config.in_channels, scale, config.cross_attention_dim)
    )
    latents = sample[:1, : pipeline.vae.config.latent_channels]
    networks = {
        "text_encoder": (
            lambda ids: pipeline.text_encoder(ids, return_dict=False)[0],
            (torch.ones(1, 77, dtype=torch.int64),),
        ),
        "vae_encoder": (lambda image: _encoded(pipeline.vae, image), (torch.zeros(1, 3, work.size, work.size),)),
        "vae_decoder": (lambda given: pipeline.vae.decode(given, return_dict=False)[0], (latents,)),
        "unet": (lambda *given: pipeline.unet(*given, return_dict=False)[0], (sample, timestep[0], states)),
    }
    target.mkdir(parents=True, exist_ok=True)
    for name, (call, example) in networks.items():  # the UNet last: it says that all are there
        owner = pipeline.vae if name.startswith("vae") else getattr(pipeline, name)
        module = _Traced(owner, call)
        openvino.save_model(
            openvino.convert_model(module, example_input=example), target / f"{name}.xml", compress_to_fp16=False
        )


def _encoded(vae: Any, image: Any) -> Any:
    found = vae.encode(image)
    return found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents


def _Traced(owner: Any, call: Callable[..., Any]) -> Any:  # noqa: N802  # a class that waits for PyTorch
    import torch

    class Traced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.owner = owner

        def forward(self, *given: Any) -> Any:
            return call(*given)

    return Traced().eval()


def open_openvino(work: Work, *, precision: str | None) -> Side:
    """diffusers' pipeline around networks that OpenVINO compiled; `precision` None is what OpenVINO chooses."""
    import diffusers
    import openvino
    import torch
    import transformers
    from diffusers.configuration_utils import FrozenDict

    core = openvino.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise NotRun("this processor does not compute in BF16")
    torch.set_num_threads(work.threads)
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": work.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[precision]
    compiled = {
        file.stem: core.compile_model(file, "CPU", settings)
        for file in sorted((work.folder / "openvino").glob("*.xml"))
    }

    def run(name: str, *given: Any) -> Any:
        return torch.from_numpy(compiled[name]([each.numpy() for each in given])[0])

    class Network(torch.nn.Module):
        """What the pipeline asks of a network, beside a call."""

        device, dtype = torch.device("cpu"), torch.float32

        def __init__(self, folder: str) -> None:
            super().__init__()
            self.config = FrozenDict(
                diffusers.ConfigMixin._dict_from_json_file(work.checkpoint / folder / "config.json")
            )

    class Text(Network):
        def forward(self, ids: Any, attention_mask: Any = None, **rest: Any) -> Any:
            return (run("text_encoder", ids),)

    class Unet(Network):
        def forward(self, sample: Any, t: Any, encoder_hidden_states: Any, **rest: Any) -> Any:
            return (run("unet", sample, t.float().reshape(-1)[0], encoder_hidden_states),)

    class Vae(Network):
        def encode(self, image: Any) -> Any:
            return SimpleNamespace(latents=run("vae_encoder", image))

        def decode(self, latents: Any, **rest: Any) -> Any:
            return (run("vae_decoder", latents),)

    diffusers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    scheduler = diffusers.DDIMScheduler.from_pretrained(work.checkpoint, subfolder="scheduler")
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(
        vae=Vae("vae"),
        text_encoder=Text("text_encoder"),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(work.checkpoint, subfolder="tokenizer"),
        unet=Unet("unet"),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return of_pipeline(pipeline, work)
