"""How a bundle is opened: on which backend, with how much of the machine. Must not import numpy or Pillow."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pixrt.options.choices import CPU_PRECISIONS, CpuPrecision
from pixrt.options.fields import option, validate

MAX_BATCH = 64
_MAX_THREADS = 4 * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a bundle is opened. Validated on construction: OptionError."""

    # Which backends there are only the list of them knows, and checks when a bundle is opened.
    backend: str = option(
        "auto", "Where the networks run: auto, or one that `pixrt doctor` lists.", kind="text", group="Speed"
    )
    threads: int | None = option(
        None,
        "CPU threads; one per core by default.",
        kind="whole",
        low=1,
        high=_MAX_THREADS,
        group="Speed",
        remedy=f"It must be from 1 to {_MAX_THREADS}, four times the cores here",
    )
    cpu_precision: CpuPrecision = option(
        "fp32",
        "OpenVINO: what it computes in; bf16 is faster on processors that have it, and less exact.",
        kind="choice",
        choices=CPU_PRECISIONS,
        group="Speed",
    )
    max_batch: int = option(
        4, "Most pictures that advance together.", kind="whole", low=1, high=MAX_BATCH, group="Speed"
    )
    # A tile must also be a multiple of what the bundle's networks take: opening the bundle checks that.
    tile: int | None = option(
        None,
        "Work on larger pictures in overlapping tiles of this side in pixels, joined smoothly (MultiDiffusion,"
        " arXiv:2302.08113).",
        kind="whole",
        low=1,
        high=8192,
        group="Speed",
    )
    low_memory: bool = option(
        False,
        "Close each network when its stage is over: less memory, slower second edits.",
        kind="flag",
        group="Speed",
    )
    verify: bool | None = option(
        None,
        "Compute the SHA-256 of every file of the bundle anew, or do not compare them; sizes always are. By default"
        " those of files that have not changed are remembered.",
        kind="flag",
        group="Speed",
    )
    fused_step: bool | None = option(
        None,
        "Run the bundle's fused step graph, or do not; TensorRT and ort-cuda do where it is there.",
        kind="flag",
        group="Speed",
    )
    provider_options: Mapping[str, str] | None = option(
        None,
        "For the execution provider of an ort- backend, or what the null backend pretends; may be repeated.",
        kind="pairs",
        group="ONNX Runtime",
        flag="--provider-option",
    )
    cuda_graphs: bool = option(
        True,
        "Capture what a step enqueues into a CUDA graph, and launch it as one.",
        kind="flag",
        group="TensorRT",
    )
    weight_budget_mib: int | None = option(
        None,
        "MiB of an engine's weights on the device; the rest is streamed from the host at every run, by engines built"
        " with weight streaming.",
        kind="whole",
        low=1,
        high=1 << 20,
        group="TensorRT",
        flag="--weight-budget",
    )
    trust_engines: bool = option(
        False,
        "Run engines that you have not built yourself: an engine is code, which came with the bundle.",
        kind="flag",
        group="TensorRT",
    )

    def __post_init__(self) -> None:
        validate(self)
