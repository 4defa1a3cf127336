"""The same edit by pixrt and by those that also make it: pictures compared first, then times in turn, and memory.

    python benchmarks/make_checkpoint.py CHECKPOINT
    pixrt export CHECKPOINT -o FP32
    python benchmarks/int8_for_speed.py CHECKPOINT INT8
    python benchmarks/peers.py CHECKPOINT FP32 INT8 --size 256 --steps 2 --scale-to 20 --json docs/results/peers.json
    python benchmarks/peers.py CHECKPOINT FP32 INT8 --size 512 --network --json docs/results/peers.json
    python benchmarks/peers.py tests/data/shapes_checkpoint shapes --json docs/results/peers.json

Sides: diffusers (FP32, BF16, with torch.compile where there is a compiler), OpenVINO as its notebook does it,
stable-diffusion.cpp, optimum, and pixrt's bundles with each backend and format; with `--preset` also with that. Who
cannot do it here is listed with the reason. All have the same weights, steps, solver, guidance, noise and threads.

Every side is a process of its own. `--at-once` of them are open beside diffusers FP32, which is in every group, and
take turns; a ratio is of two neighbours in time. Their first edit shows the pictures and warms up: PSNR is to diffusers
FP32's. Peak memory is the process's resident set at its highest, opening included. `--network` measures one step of the
UNet, three rows, beside the peaks of matrix products. `--scale-to` says what an edit of so many steps takes, by the
median time of a step; presets run as they are. `--json` adds a run to the file, or replaces that of the same model,
size and kind.
"""

# Every side's process imports this file: what is heavy is imported where it is needed, for it would count there.
import dataclasses
import functools
import json
import math
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from peer_openvino import convert_to_openvino
from peer_sides import NotRun, Peer, Work, peers
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import open_bundle
from pixrt_export.bench.peaks import measure_peaks

LIBRARIES = (
    *("torch", "diffusers", "transformers", "onnxruntime", "openvino", "optimum-onnx"),
    *("stable-diffusion-cpp-python", "numpy"),
)
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
REFERENCE = "diffusers FP32"


class Process:
    """A side in a process of its own. Raises NotRun where that says why it cannot."""

    def __init__(self, peer: Peer, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.peer = peer
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, peer, work), daemon=True)
        self._process.start()
        theirs.close()
        self.open_s: float = self.answer()

    def answer(self) -> Any:
        try:
            kind, value = self._connection.recv()
        except EOFError as error:
            raise NotRun(f"its process ended with {self._process.exitcode}: out of memory?") from error
        if kind == "not run":
            raise NotRun(value)
        return value

    def ask(self, *words: Any) -> Any:
        self._connection.send(words)
        return self.answer()

    def close(self) -> None:
        self._connection.close()
        self._process.join(30)
        self._process.kill()


def serve(connection: Connection, peer: Peer, work: Work) -> None:
    """Open a side, then do what comes, until nothing does."""
    from pixrt.apps.bench import peak_memory_bytes

    try:
        started = time.perf_counter()
        side = peer.open(work)
        connection.send(("done", time.perf_counter() - started))
        while True:
            what, *given = connection.recv()
            started = time.perf_counter()
            if what == "network" and side.network is None:
                raise NotRun("its network cannot be had by itself")
            made = side.edit(*given) if what == "edit" else side.network and side.network()
            seconds = time.perf_counter() - started
            # What getrusage says begins with the memory of the process that started this one.
            peak = peak_memory_bytes() or 0
            connection.send(("done", (seconds, made if what == "edit" else None, peak)))
    except EOFError:
        return
    except Exception as error:  # whatever a peer raises is why it is not measured
        reason = str(error) if isinstance(error, NotRun) else f"{type(error).__name__}: {error}"
        connection.send(("not run", " ".join(reason.split())[:300]))


@dataclasses.dataclass(slots=True)
class Measured:
    """What is known of a side; `not_run` says why nothing is."""

    name: str
    format: str
    not_run: str | None = None
    psnr_db: float | None = None
    worst_level: int | None = None
    open_s: float | None = None
    seconds: list[float] = dataclasses.field(default_factory=list)
    ratios: list[float] = dataclasses.field(default_factory=list)
    steps_s: list[float] = dataclasses.field(default_factory=list)
    steps: int = 0
    network_rows: int | None = None
    peak_memory_bytes: int = 0

    def scaled(self, steps: int, scale_to: int, seconds: float) -> float:
        """Seconds of an edit of `scale_to` steps, where one of `steps` took `seconds`."""
        if self.steps != steps or not self.steps_s or scale_to == steps:
            return seconds
        return seconds + (scale_to - steps) * statistics.median(self.steps_s)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How it is measured."""

    network: bool
    repeat: int
    at_once: int
    scale_to: int


def measure(sides: Sequence[Peer], work: Work, plan: Plan, console: Console) -> list[Measured]:
    """Groups of sides in turn beside the first, which must run."""
    from pixrt_export.evaluation.accuracy import psnr_db

    source = Source(work)
    first, *others = sides
    reference = Process(first, work)
    wanted = dict.fromkeys(peer.noise for peer in sides)
    found = {first.name: Measured(first.name, first.format, open_s=reference.open_s)}
    shown: dict[str, Any] = {}
    for noise in wanted if not plan.network else ():
        shown[noise] = source.pictures_of(first, work, noise, reference)
    while others:
        group: list[Process] = []
        while others and len(group) < plan.at_once:
            peer = others.pop(0)
            made = found[peer.name] = Measured(peer.name, peer.format)
            console.print(f"{peer.name} ...", highlight=False)
            try:
                process = Process(peer, work)
                made.open_s = process.open_s
                if plan.network:
                    process.ask("network")
                else:
                    seen = process.ask("edit", *source.edit(0))[1].picture
                    theirs = shown[peer.noise]
                    made.psnr_db = psnr_db(seen, theirs)
                    made.worst_level = int(np.abs(np.int16(seen) - np.int16(theirs)).max())
                    console.print(f"  {made.psnr_db:.1f} dB to {REFERENCE}", highlight=False)
                group.append(process)
            except NotRun as error:
                made.not_run = str(error)
                console.print(f"  not run: {error}", highlight=False)
        take_turns([reference, *group], found, work, plan, source)
        for process in group:
            process.close()
    reference.close()
    return list(found.values())


def take_turns(
    processes: Sequence[Process], found: dict[str, Measured], work: Work, plan: Plan, source: "Source"
) -> None:
    """Everyone once in each round; whoever comes first differs. A ratio is to the first one's time in that round."""
    if plan.network:
        processes[0].ask("network")
    for number in range(1, plan.repeat + 1):
        took: dict[str, float] = {}
        for process in (*processes[number % len(processes) :], *processes[: number % len(processes)]):
            side = found[process.peer.name]
            words = ("network",) if plan.network else ("edit", *source.edit(number))
            try:
                seconds, made, side.peak_memory_bytes = process.ask(*words)
            except NotRun as error:
                side.not_run = str(error)
                continue
            side.seconds.append(seconds)
            took[side.name] = seconds
            if made is not None:
                side.steps, side.network_rows = len(made.steps_s) + 1, made.network_rows
                side.steps_s += made.steps_s
        for name, seconds in took.items():
            scaled = found[name].scaled(work.steps, plan.scale_to, seconds)
            whole = found[REFERENCE].scaled(work.steps, plan.scale_to, took[REFERENCE])
            found[name].ratios.append(whole / scaled)


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """The edits: a picture and an instruction for each, so that nothing is remembered from the one before."""

    work: Work

    def edit(self, number: int) -> tuple[Image.Image, str, int]:
        """Picture, instruction and seed."""
        from parity import pictures

        picture = pictures((self.work.size, self.work.size), number + 1)[-1]
        return picture, f"make the background blue {number or ''}".strip(), 100 + number

    def pictures_of(self, peer: Peer, work: Work, noise: str, reference: Process) -> Any:
        """What the first side makes of the first edit with the noise of another."""
        if noise == peer.noise:
            return reference.ask("edit", *self.edit(0))[1].picture
        other = dataclasses.replace(peer, open=_with_noise(peer, noise))
        process = Process(other, work)
        try:
            return process.ask("edit", *self.edit(0))[1].picture
        finally:
            process.close()


def _with_noise(peer: Peer, noise: str) -> Any:
    return functools.partial(peer.open, noise=noise)


def unet_flops(bundle: str, work: Work) -> int:
    """Of a step of all rows, counted in the graph of a bundle."""
    from pixrt_export.bench.work import count_work

    opened = open_bundle(bundle, verify=False)
    spec, side = opened.manifest.component(Component.UNET), work.size // opened.manifest.latents.scale
    lengths = {"sample": {2: side, 3: side}, "encoder_hidden_states": {1: opened.manifest.tokenizers[0].max_length}}
    shapes = {
        each.name: tuple(
            {0: work.rows, **lengths.get(each.name, {})}.get(at, length) for at, length in enumerate(each.shape)
        )
        for each in spec.inputs
    }
    return count_work(opened.folder / spec.file, shapes).flops  # type: ignore[arg-type]  # named lengths are all fixed


def environment() -> dict[str, Any]:
    """Processor, its instructions, and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = dict(tuple(map(str.strip, line.split(":", 1))) for line in lines if ":" in line)
    there = facts.get("flags", "").split()
    versions: dict[str, str | None] = {}
    for name in ("pixrt", *LIBRARIES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "processor": facts.get("model name", platform.machine()),
        "instructions": [flag for flag in FLAGS if flag in there],
        "cores": multiprocessing.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def add_run(file: Path, run: dict[str, Any]) -> None:
    """Into a file of runs, in the place of one of the same model, size and kind."""
    runs = json.loads(file.read_text())["runs"] if file.exists() else []
    same = ("model", "size", "network")
    runs = [each for each in runs if any(each[name] != run[name] for name in same)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps({"runs": sorted([*runs, run], key=lambda each: [str(each[name]) for name in same])}, indent=1) + "\n"
    )


def rows(run: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The table of a run, as text."""
    for side in run["sides"]:
        if side["not_run"] is not None:
            yield side["name"], f"not run: {side['not_run']}"
            continue
        psnr = "-" if side["psnr_db"] is None else f"{side['psnr_db']:.1f}"
        least, most = min(side["ratios"]), max(side["ratios"])
        ratio = f"{statistics.median(side['ratios']):.2f} ({least:.2f} to {most:.2f})"
        rate = ""
        if run["network"] and run["flops"]:
            speed = run["flops"] / statistics.median(side["seconds"])
            peak = run["peaks"]["formats"].get(side["format"])
            rate = f"{speed / 1e9:.0f}" + ("" if peak is None else f", {100 * speed / peak:.0f} %")
        yield (
            side["name"],
            psnr,
            f"{side['median_s']:.3f}",
            ratio,
            f"{side['peak_memory_bytes'] / 2**30:.2f}",
            rate,
        )


def main(
    checkpoint: Annotated[Path, typer.Argument(help="A diffusers-format InstructPix2Pix folder.")],
    bundles: Annotated[list[str], typer.Argument(help="Its bundles, the FP32 one first.")],
    size: Annotated[int | None, typer.Option(min=32, help="Side in pixels; the bundle's own by default.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="The bundle's by default.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="The bundle's by default.")] = None,
    scale_to: Annotated[int | None, typer.Option(min=1, help="Steps of the edit that times are scaled to.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Edits of each side that count.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Of each side.")] = 2,
    at_once: Annotated[int, typer.Option(min=1, help="Sides open beside diffusers FP32.")] = 3,
    network: Annotated[bool, typer.Option("--network", help="One step of the UNet only.")] = False,
    preset: Annotated[list[str] | None, typer.Option(help="pixrt with this preset too; may be repeated.")] = None,
    side: Annotated[list[str] | None, typer.Option(help="Only sides with this in their name; may be repeated.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="No sides with this in their name.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where OpenVINO's networks are kept.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Add the run to this file.")] = None,
) -> None:
    manifest = open_bundle(bundles[0]).manifest
    defaults, size = manifest.defaults, size or manifest.native_resolution
    steps = steps or defaults.steps
    console = Console(width=160)
    with tempfile.TemporaryDirectory() as temporary:
        work = Work(
            checkpoint=checkpoint,
            folder=folder or Path(temporary),
            size=size,
            steps=steps,
            scheduler=scheduler or defaults.scheduler,
            guidance_scale=defaults.guidance_scale,
            image_guidance_scale=defaults.image_guidance_scale,
            threads=threads,
        )
        plan = Plan(network, repeat, at_once, scale_to or steps)
        sides = peers(bundles, [] if network else preset or [])
        sides = [each for each in sides if each.name == REFERENCE or asked(each.name, side, without)]
        if any("notebook" in each.name for each in sides):
            console.print("converting for OpenVINO ...")
            converting = multiprocessing.get_context("spawn").Process(target=convert_to_openvino, args=(work,))
            converting.start()
            converting.join()
        peaks = dataclasses.asdict(measure_peaks(threads))
        measured = measure(sides, work, plan, console)
    run = {
        "model": manifest.name,
        "model_sha256": manifest.source.sha256,
        "size": size,
        "network": network,
        "steps": steps,
        "scale_to": plan.scale_to,
        "scheduler": work.scheduler,
        "guidance_scale": work.guidance_scale,
        "image_guidance_scale": work.image_guidance_scale,
        "rows": work.rows,
        "threads": threads,
        "repeat": repeat,
        "flops": unet_flops(bundles[0], work),
        "peaks": peaks,
        "environment": environment(),
        "sides": [facts(each, work, plan) for each in measured],
    }
    table = Table("", "PSNR, dB", "seconds", "times as fast", "peak, GiB", "GFLOP/s, of the peak", box=None)
    for row in rows(run):
        table.add_row(*row)
    formats = ", ".join(f"{name} {peak / 1e9:.0f}" for name, peak in peaks["formats"].items())
    what = "a step of the UNet" if network else f"an edit of {plan.scale_to} steps, scaled from {steps}"
    console.print(f"{manifest.name}, {size} px, {threads} threads, {repeat} of each: {what}; GEMM GFLOP/s: {formats}")
    console.print(table)
    if json_file is not None:
        add_run(json_file, run)


def asked(name: str, only: list[str] | None, without: list[str] | None) -> bool:
    """Whether a side is to be measured."""
    return (not only or any(word in name for word in only)) and not any(word in name for word in without or ())


def facts(side: Measured, work: Work, plan: Plan) -> dict[str, Any]:
    """As JSON, with the median of what an edit took, scaled."""
    scaled = [side.scaled(work.steps, plan.scale_to, seconds) for seconds in side.seconds]
    median = statistics.median(scaled) if scaled else math.nan
    if not scaled and side.not_run is None:
        side.not_run = "nothing was measured"
    return {**dataclasses.asdict(side), "median_s": None if math.isnan(median) else median}


if __name__ == "__main__":
    typer.run(main)
