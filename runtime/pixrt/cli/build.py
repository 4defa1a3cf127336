"""`pixrt build`: a bundle's ONNX networks become TensorRT engines. The one place that reaches for the builder."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixrt.backends.registry import WITH_ENGINES
from pixrt.bundles.engine_spec import EngineSpec
from pixrt.bundles.manifest import Component
from pixrt.cli.console import say, warn
from pixrt.cli.display import errors, progress
from pixrt.cli.parameters import with_flags
from pixrt.errors import EngineError, OptionError
from pixrt_engines.options import Knobs

if TYPE_CHECKING:
    from pixrt.editor.result import Estimate
    from pixrt_engines import BuildOptions, BuildPlan, BuiltEngine
    from pixrt_engines.plans import PlannedEngine


@with_flags(Knobs)
def build(
    bundle: Annotated[
        str,
        typer.Argument(metavar="BUNDLE", help="The bundle's folder or name; best one exported with --precision fp16."),
    ],
    library: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, tensorrt or tensorrt-rtx, which builds without a GPU.",
            autocompletion=lambda: ["auto", *WITH_ENGINES],
        ),
    ] = "auto",
    target: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Compute capabilities, such as sm86,sm89, or native; RTX's from sm80 on by default."
        ),
    ] = "",
    size: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="WIDTHxHEIGHT in pixels, separated by commas; else the native one and its narrower ones.",
        ),
    ] = "",
    batch: Annotated[str, typer.Option(metavar="N", help="Pictures at once: a number, or a range.")] = "1-4",
    branches: Annotated[
        str, typer.Option(metavar="LIST", help="Branches of the guidance: some of 1,2,3; else the usual ones.")
    ] = "",
    component: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this network; may be repeated.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", metavar="", help="Build also what is there already.")] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", metavar="", help="Afterwards remove the engines of the same networks not asked for here."
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", metavar="", help="Only parse the networks, and list the nodes that the library refuses."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Only print the plans that would be built.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one line of JSON per engine.")] = False,
    *,
    parameters: dict[str, Any],
) -> None:
    """Build TensorRT engines into a bundle, one per network: a static profile per size, a dynamic one for the rest."""
    from pixrt_engines import BuildOptions, plan_build
    from pixrt_engines.options import parse_batch, parse_branches, parse_components, parse_sizes, parse_targets

    options = BuildOptions(
        bundle=bundle,
        components=parse_components(component or []),
        library=library,
        targets=parse_targets(target),
        sizes=parse_sizes(size),
        batch=parse_batch(batch),
        branches=parse_branches(branches),
        knobs=Knobs(**parameters),
        rebuild=rebuild,
        prune=prune,
    )
    if check:
        _check(options, as_json)
        return
    plan = plan_build(options)
    gpus = {engine.entry.gpu for engine in plan.engines} - {""}
    tied = f" (tied to the GPU here, {', '.join(gpus)})" if gpus else ""
    said = f"{plan.library.name} {plan.library.version} for {', '.join(plan.targets.capabilities)}{tied}"
    if plan.bundle.manifest.precision == "fp32":
        warn("this bundle is fp32, and its engines will be; export with --precision fp16 for half the memory")
    if dry_run:
        _describe(plan, said, as_json)
        return
    if not as_json:
        say(said)
    _run(plan, options, _Printer(say, as_json))


def build_for(
    bundle: str,
    backend: str,
    estimates: "Sequence[Estimate]",
    *,
    components: tuple[Component, ...],
    knobs: Knobs,
    dry_run: bool,
) -> None:
    """Build the engines that edits need on this machine's GPU; what is there and can be used stays. Prints to stderr.

    `components` as `BuildOptions`. Raises OptionError for a backend without engines, and what a build raises.
    """
    from pixrt_engines import BuildOptions, plan_build, without_covered

    if backend not in WITH_ENGINES:
        raise OptionError(
            f"engines are to be built for the backend {backend}", remedy=f"Choose --backend {' or '.join(WITH_ENGINES)}"
        )
    counts = {count for estimate in estimates for count in estimate.branches}
    options = BuildOptions(
        bundle=bundle,
        components=components,
        library=backend,
        targets=("native",),
        sizes=tuple(dict.fromkeys(estimate.window_size for estimate in estimates)),
        batch=(min(e.batch for e in estimates), max(e.batch for e in estimates)),
        branches=tuple(sorted(counts)),
        knobs=knobs,
    )
    plan = without_covered(plan_build(options))
    if dry_run:
        for engine in plan.engines:
            _tell(engine, warn)
        return
    _run(plan, options, _Printer(warn, as_json=False))


def _check(options: "BuildOptions", as_json: bool) -> None:
    from pixrt_engines import check_build

    with errors.status("parsing"):
        found = check_build(options)
    for component, nodes in found.items():
        if as_json:
            say(json.dumps({"component": component, "unsupported": [dataclasses.asdict(node) for node in nodes]}))
            continue
        say(f"{component}: {f'{len(nodes)} unsupported' if nodes else 'every node is supported'}")
        for node in nodes:
            say(f"  {node}")
    refused = [component for component, nodes in found.items() if nodes]
    if refused:
        raise EngineError(
            f"{', '.join(refused)} cannot become an engine", remedy="Run them with another backend, such as ort-cuda"
        )


def _describe(plan: "BuildPlan", said: str, as_json: bool) -> None:
    if not as_json:
        say(said)
    for engine in plan.engines:
        if as_json:
            say(json.dumps(dataclasses.asdict(engine.entry)))
        else:
            _tell(engine, say)


def _tell(engine: "PlannedEngine", tell: Callable[[str], None]) -> None:
    tell(f"{engine.name}: {engine.entry.source_bytes / 2**20:.1f} MiB of ONNX")
    for named in engine.profiles:
        tell(f"  {named.name}")
        for name, sizes in named.profile.inputs.items():
            tell(f"    {name}  {sizes}")


def _run(plan: "BuildPlan", options: "BuildOptions", printer: "_Printer") -> None:
    from pixrt_engines import run_build

    try:
        run_build(plan, options, printer)
    finally:
        printer.close()


class _Printer:
    """Shows a bar for the engine that is being built, and tells a line for each that is done."""

    def __init__(self, tell: Callable[[str], None], as_json: bool) -> None:
        self._tell = tell
        self._as_json = as_json
        self._stack = ExitStack()
        self._show: Callable[[int, int], None] = lambda done, total: None

    def close(self) -> None:
        self._stack.close()

    def on_engine(self, planned: "PlannedEngine") -> None:
        if not self._as_json:
            _tell(planned, self._tell)
        self._show = self._stack.enter_context(progress(planned.name))

    def on_wait(self, planned: "PlannedEngine") -> None:
        warn(f"another process builds {planned.name}: waiting for its result")

    def on_progress(self, fraction: float) -> None:
        self._show(int(100 * fraction), 100)

    def on_built(self, built: "BuiltEngine") -> None:
        self._stack.close()
        if self._as_json:
            self._tell(json.dumps(_facts(built)))
            return
        spec = built.spec
        took = "was there already" if built.outcome == "found" else f"{built.seconds:.1f} s"
        self._tell(f"  {spec.file}  {spec.bytes / 2**20:.1f} MiB  {took}")
        attentions = built.attentions
        if attentions is not None and attentions.in_fp32 and spec.precision == "fp16":
            self._tell(
                f"  {attentions.in_fp32} of {attentions.all} attentions are kept in FP32: each runs as several kernels,"
                " slower and with more memory"
            )


def _facts(built: "BuiltEngine") -> dict[str, Any]:
    spec: EngineSpec = built.spec
    attentions = None if built.attentions is None else dataclasses.asdict(built.attentions)
    told = {"outcome": built.outcome, "seconds": round(built.seconds, 3), "attentions": attentions}
    return told | dataclasses.asdict(spec)
