"""The whole build of a bundle: what is asked for, what is there already, the rest one after the other."""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from pixrt.bundles.engine_files import engine_problem
from pixrt.bundles.engine_spec import EngineSpec
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle, open_bundle
from pixrt.errors import OutputError
from pixrt_engines.builder import build_plan
from pixrt_engines.library import Library, open_library
from pixrt_engines.options import BuildOptions
from pixrt_engines.parsing import Attentions, Unsupported, parse
from pixrt_engines.plans import PlannedEngine, plan_engines
from pixrt_engines.settings import require_possible
from pixrt_engines.shelf import Shelf
from pixrt_engines.targets import Targets, resolve_targets

Outcome = Literal["built", "found"]
# A plan holds the weights once and each profile's code, some MB whatever the weights: 12 of RTX's for a small UNet.
_CODE_BYTES = 12 << 20


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a request comes to in a bundle, with a library, before anything is built."""

    bundle: Bundle
    library: Library
    targets: Targets
    engines: tuple[PlannedEngine, ...]


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """One engine of the result: its manifest entry, whether it was there already, and the seconds it took.

    `attentions` are the network's, None if it was not parsed.
    """

    spec: EngineSpec
    outcome: Outcome
    seconds: float
    attentions: Attentions | None = None


class BuildListener(Protocol):
    """Who wants to know how far a build is."""

    def on_engine(self, planned: PlannedEngine) -> None:
        """A build begins."""

    def on_wait(self, planned: PlannedEngine) -> None:
        """Another process builds this engine; its result is waited for."""

    def on_progress(self, fraction: float) -> None:
        """So much of the engine is built, from 0 to 1. Called by a thread of the library's."""

    def on_built(self, built: BuiltEngine) -> None:
        """An engine is done and in the manifest."""


def plan_build(options: BuildOptions) -> BuildPlan:
    """Open the bundle and the library, and see what has to be built. Raises OptionError, BundleError, EngineError."""
    library = open_library(options.library)
    require_possible(library, options.knobs)
    bundle = open_bundle(options.bundle)
    targets = resolve_targets(library, options.targets)
    return BuildPlan(bundle, library, targets, plan_engines(options, bundle.manifest, library, targets))


def run_build(plan: BuildPlan, options: BuildOptions, listener: BuildListener) -> tuple[BuiltEngine, ...]:
    """Build what is not there. Each engine is in the manifest as soon as it is done, and stays if a later one fails.

    Raises EngineError, OutputError, BundleError, KeyboardInterrupt.
    """
    shelf = Shelf(plan.bundle.folder)
    shelf.open()
    missing = [engine for engine in plan.engines if options.rebuild or shelf.find(engine.entry.key) is None]
    _require_space(plan.bundle.folder, missing)
    done = []
    for planned in plan.engines:
        started = time.perf_counter()
        spec, outcome, attentions = _build(plan, planned, options, shelf, listener)
        built = BuiltEngine(spec, outcome, time.perf_counter() - started, attentions)
        listener.on_built(built)
        done.append(built)
    if options.prune:
        components = {engine.component for engine in plan.engines}
        shelf.prune(components, keep={engine.entry.key for engine in plan.engines})
    return tuple(done)


def without_covered(plan: BuildPlan) -> BuildPlan:
    """The plan without engines in whose place one of the bundle can be used, for all of their shapes."""
    shelf, library = Shelf(plan.bundle.folder), plan.library
    manifest = shelf.manifest()

    def covers(spec: EngineSpec, wanted: EngineSpec) -> bool:
        return (
            spec.component == wanted.component
            and engine_problem(spec, library.name, library.version, plan.targets.capabilities[0]) is None
            and spec.refittable >= wanted.refittable
            and spec.weight_streaming >= wanted.weight_streaming
            and all(map(spec.covers, wanted.profiles))
            and shelf.find(spec.key) is not None
        )

    missing = [e for e in plan.engines if not any(covers(spec, e.entry) for spec in manifest.engines)]
    return replace(plan, engines=tuple(missing))


def _build(
    plan: BuildPlan, planned: PlannedEngine, options: BuildOptions, shelf: Shelf, listener: BuildListener
) -> tuple[EngineSpec, Outcome, Attentions | None]:
    waited = False

    def on_wait() -> None:
        nonlocal waited
        waited = True
        listener.on_wait(planned)

    listener.on_engine(planned)
    with shelf.building(planned.name, on_wait):
        if waited or not options.rebuild:
            found = shelf.find(planned.entry.key)
            if found is not None:
                return found, "found", None
        with plan.bundle.loading(planned.component) as path:
            made = build_plan(
                plan.library,
                planned.component,
                path,
                planned.entry.profiles,
                plan.targets,
                options.knobs,
                listener.on_progress,
            )
        return shelf.add(planned.name, made.data, planned.entry), "built", made.attentions


def _require_space(folder: Path, engines: Iterable[PlannedEngine]) -> None:
    """Refuse what cannot fit before hours are spent; a stripped plan's size is not known in advance."""
    needed = sum(
        len(engine.profiles) * _CODE_BYTES + engine.entry.source_bytes
        for engine in engines
        if not engine.entry.stripped
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"the engines will take about {needed / 2**20:.0f} MiB, and {folder} has {free / 2**20:.0f} MiB free",
            remedy="Free space, or ask for fewer --size, --branches or --component",
        )


def check_build(options: BuildOptions) -> dict[Component, tuple[Unsupported, ...]]:
    """The nodes of each network that the library's parser refuses; nothing is built. OptionError, BundleError."""
    library = open_library(options.library)
    bundle = open_bundle(options.bundle)
    components = options.components or tuple(Component(name) for name in bundle.manifest.components)
    found = {}
    for component in components:
        with bundle.loading(component) as path:
            found[component] = parse(library, path)[1]
    return found
