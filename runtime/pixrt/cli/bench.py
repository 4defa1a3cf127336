"""`pixrt bench`: how long an edit takes here, stage by stage, and how near the UNet is to what this machine can do."""

import dataclasses
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from pixrt.bundles.store import DEFAULT_BUNDLE, Bundle, open_bundle
from pixrt.cli.console import say, warn
from pixrt.cli.display import add_row, facts_table, print_table, progress
from pixrt.cli.doctor import environment
from pixrt.cli.extras import require_packages
from pixrt.cli.loras import LoraFlag, lora_inputs
from pixrt.cli.measuring import ABundle, AJsonFile, AnOverwrite
from pixrt.cli.outputs import require_figures, write_json
from pixrt.cli.parameters import BUDGET, with_flags, with_session
from pixrt.files import atomic_write
from pixrt.options.session import SessionOptions
from pixrt.options.tasks import EditOptions

if TYPE_CHECKING:
    from pixrt.apps.bench import Spread
    from pixrt.editor.editor import Editor
    from pixrt.editor.result import Estimate
    from pixrt_export.bench.peaks import Peaks

# What the speed of one picture can depend on.
SESSION = (
    *("backend", "threads", "cpu_precision", "tile", "low_memory", "fused_step"),
    *("provider_options", "cuda_graphs", "weight_budget_mib", "trust_engines"),
)
HOST = "a step without the network"
ROUNDS = 3  # warm edits on the null backend for each that counts: they cost next to nothing


@with_session(SessionOptions(max_batch=1), SESSION)
@with_flags(EditOptions, defaults=EditOptions(seed=0), without=(BUDGET,))
def bench(
    bundle: ABundle = DEFAULT_BUNDLE,
    size: Annotated[
        int | None,
        typer.Option(metavar="N", min=32, max=4096, help="Side of the pictures; the bundle's own size by default."),
    ] = None,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Edits that count.")] = 10,
    warmups: Annotated[
        int, typer.Option(metavar="N", min=0, help="Edits before them, beside the first, that do not count.")
    ] = 2,
    lora: LoraFlag = None,
    json_file: AJsonFile = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with tables and plots, a .html.")
    ] = None,
    overwrite: AnOverwrite = False,
    *,
    session: SessionOptions,
    parameters: dict[str, Any],
) -> None:
    """Time edits of made pictures, stage by stage: the first of the process, then warm ones, one after the other."""
    if html is not None:
        require_packages("matplotlib", extra="train", purpose="--html")
    require_figures(json_file, overwrite=overwrite)
    require_figures(html, overwrite=overwrite)
    from pixrt.apps import bench as edits
    from pixrt.editor.editor import Editor
    from pixrt_export.bench.peaks import measure_peaks
    from pixrt_export.evaluation.files import describe_model

    opened = open_bundle(bundle, verify=False)
    size = size or parameters.get("resolution") or opened.manifest.native_resolution
    options, loras = EditOptions(**{"seed": 0, "resolution": size, **parameters}), lora_inputs(lora)
    started = time.perf_counter()
    with Editor(bundle, session, loras=loras) as editor, progress("editing") as on_progress:
        open_ms = 1000 * (time.perf_counter() - started)
        timings = edits.measure(editor, options, size, repeats=repeats, warmups=warmups, on_progress=on_progress)
        memory = edits.peak_memory_bytes()  # before anything else is measured in this process
        estimate = _estimate(editor, options, size)
        resolved = options.resolve(editor.manifest.defaults, editor.levers)
        about = describe_model(editor.manifest, resolved, editor.loras)
        backend = editor.backend
    idle = dataclasses.replace(SessionOptions(backend="null"), tile=session.tile, max_batch=1, verify=False)
    with Editor(bundle, idle) as editor:
        host = edits.measure(editor, options, size, repeats=ROUNDS * repeats, warmups=warmups).per_step
    peaks, format_ = measure_peaks(session.threads), _format(opened, session, backend)
    network_ms = timings.stages["denoise"].p50 - estimate.steps * host.p50
    facts: dict[str, Any] = {
        **about,
        "size": size,
        "repeats": repeats,
        "warmups": warmups,
        "backend": backend,
        "session": {name: getattr(session, name) for name in SESSION},
        "environment": environment(opened),
        **edits.facts(timings),
        "open_ms": open_ms,
        "host_step_ms": dataclasses.asdict(host),
        "peak_memory_bytes": memory,
        "steps": estimate.steps,
        "network_calls": estimate.network_calls,
        "network_rows": estimate.network_rows,
        "peaks": dataclasses.asdict(peaks),
        "format": format_,
        "unet": _rates(opened, estimate, network_ms, peaks, format_),
    }
    if json_file is not None:
        write_json(json_file, facts, overwrite=overwrite)
    if html is not None:
        from pixrt_export.bench.report import page

        with atomic_write(html, overwrite=overwrite) as file:
            file.write(page(facts, edits.STAGES).encode())
    _print(timings.stages, host, facts, edits.STAGES)


def _estimate(editor: "Editor", options: EditOptions, size: int) -> "Estimate":
    from pixrt.apps.bench import picture
    from pixrt.tasks.jobs import Job

    (estimate,) = editor.estimate(editor.check([Job(options=options, text="make it winter", image=picture(size, 0))]))
    return estimate


def _format(bundle: Bundle, session: SessionOptions, backend: str) -> str:
    """In what the UNet multiplies: the format whose peak its work is a share of."""
    if "openvino" in backend:
        return "INT8" if bundle.manifest.precision == "int8" else session.cpu_precision.upper()
    return "FP32"


def _rates(
    bundle: Bundle, estimate: "Estimate", network_ms: float, peaks: "Peaks", format_: str
) -> dict[str, Any] | None:
    """FLOPs and bytes of the UNet a second, and their shares of the peaks, none where that format's is not known.

    None where they cannot be counted, or the network takes no time.
    """
    if find_spec("onnx") is None:
        warn("the UNet's work is not counted: that needs onnx; install it: pip install 'pixrt[export]'")
        return None
    if network_ms <= 0:
        return None
    from pixrt_export.bench.work import work_of_edit

    work, seconds = work_of_edit(bundle, estimate), network_ms / 1000
    return {
        "flops": work.flops,
        "moved_bytes": work.moved_bytes,
        "flop_per_s": work.flops / seconds,
        "bytes_per_s": work.moved_bytes / seconds,
        "of_gemm_peak": work.flops / seconds / peaks.formats[format_] if format_ in peaks.formats else None,
        "of_copy_peak": work.moved_bytes / seconds / peaks.copy_bytes_per_s,
    }


def _print(stages: "dict[str, Spread]", host: "Spread", facts: dict[str, Any], labels: dict[str, str]) -> None:
    table = Table("ms", "p50", "p90", "p99", "least", "most", "count", box=None)
    for name, spread in [*stages.items(), ("host", host)]:
        figures = (spread.p50, spread.p90, spread.p99, spread.least, spread.most)
        add_row(table, labels.get(name, HOST), *(f"{figure:.3f}" for figure in figures), spread.count)
    about = facts["model"], f"{facts['size']} px", f"{facts['steps']} steps", f"{facts['network_rows']} rows"
    say(", ".join((*about, facts["backend"])))
    print_table(table)
    print_table(facts_table([*_summary(facts)]))


def _summary(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is measured once, for people."""
    yield "opening the bundle", f"{facts['open_ms']:.1f} ms"
    yield "opening the networks", f"{facts['first_ms']['load']:.1f} ms"
    yield "the first edit", f"{facts['first_ms']['edit']:.1f} ms, with opening the networks"
    memory = facts["peak_memory_bytes"]
    yield "peak memory", "not known here" if memory is None else f"{memory / 2**20:.0f} MiB (VmHWM of this process)"
    peaks, unet = facts["peaks"], facts["unet"]
    yield "peak of a matrix product", f"{peaks['gemm_flop_per_s'] / 1e9:.1f} GFLOP/s ({peaks['gemm']})"
    for name in ("BF16", "INT8"):
        if name in peaks["formats"]:
            yield f"the same in {name}", f"{peaks['formats'][name] / 1e9:.1f} GFLOP/s (OpenVINO)"
    yield "peak of a copy", f"{peaks['copy_bytes_per_s'] / 1e9:.1f} GB/s (read and written, one thread)"
    if unet is not None:
        for name, rate, share, what in (
            ("UNet, work", unet["flop_per_s"], unet["of_gemm_peak"], f"GFLOP/s, {{}} of the peak in {facts['format']}"),
            ("UNet, memory", unet["bytes_per_s"], unet["of_copy_peak"], "GB/s, {} of the peak"),
        ):
            told = "an unknown share" if share is None else f"{100 * share:.0f} %"
            yield name, f"{rate / 1e9:.1f} {what.format(told)}"
