"""What a request comes to, before anything is built: an engine per component, with all its profiles and its key."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from pixrt.bundles.engine_files import source_digest, source_files
from pixrt.bundles.engine_spec import ENGINES_FOLDER, EngineSpec
from pixrt.bundles.manifest import Component, Manifest
from pixrt.errors import OptionError
from pixrt_engines.library import Library
from pixrt_engines.options import BuildOptions, Knobs
from pixrt_engines.profiles import NamedProfile, plan_profiles
from pixrt_engines.targets import Targets

_KEY_DIGITS = 12


@dataclass(frozen=True, slots=True)
class PlannedEngine:
    """An engine to build. `entry` is its manifest entry but for size and SHA-256 of the plan, which are not known."""

    component: Component
    profiles: tuple[NamedProfile, ...]
    entry: EngineSpec

    @property
    def name(self) -> str:
        """The plan's file name without suffix: component, shape, first digits of the key."""
        return _name(self.component, self.profiles, self.entry.key)


def plan_engines(
    options: BuildOptions, manifest: Manifest, library: Library, targets: Targets
) -> tuple[PlannedEngine, ...]:
    """The engines that a request comes to, in the order of the bundle's components. Raises OptionError, BundleError."""
    components = options.components or default_components(manifest)
    bundle_precision = _precision(manifest)
    planned = []
    for component in components:
        if component is Component.UNET_SHALLOW:
            raise OptionError(
                f"the component {component} has no engine: features would cross to the host and back at every step",
                remedy="Leave it out: cache_interval runs on ort-cuda, ort-cpu and openvino",
                option="components",
            )
        manifest.component(component)
        precision = "fp32" if component is Component.VAE_DECODER_FP32 else bundle_precision
        profiles = tuple(plan_profiles(component, manifest, options.sizes, options.batch, options.branches))
        entry = _entry(component, profiles, manifest, precision, library, targets, options.knobs)
        planned.append(PlannedEngine(component, profiles, entry))
    return tuple(planned)


def _name(component: Component, profiles: tuple[NamedProfile, ...], key: str) -> str:
    shape = profiles[0].name if len(profiles) == 1 else f"{len(profiles)}profiles"
    return f"{component}-{shape}-{key[:_KEY_DIGITS]}"


def default_components(manifest: Manifest) -> tuple[Component, ...]:
    """Those that the runtime opens: the fused step, if there is one, stands for the UNet."""
    components = tuple(Component(name) for name in manifest.components if name != Component.UNET_SHALLOW)
    if Component.UNET_STEP not in components:
        return components
    return tuple(component for component in components if component is not Component.UNET)


def _precision(manifest: Manifest) -> Literal["fp32", "fp16"]:
    if manifest.precision == "fp16-weights":
        raise OptionError(
            f"bundle {manifest.name!r} is fp16-weights: FP32 arithmetic on half-size weights, made for CPUs",
            remedy="Export the checkpoint with --precision fp16, and build that",
        )
    if manifest.precision == "int8" or manifest.precision == "int8-weights":
        raise OptionError(
            f"bundle {manifest.name!r} is {manifest.precision}: its UNet is quantised for CPUs",
            remedy="Export the checkpoint with --precision fp16, and build that",
        )
    return manifest.precision


def _entry(
    component: Component,
    named: tuple[NamedProfile, ...],
    manifest: Manifest,
    precision: Literal["fp32", "fp16"],
    library: Library,
    targets: Targets,
    knobs: Knobs,
) -> EngineSpec:
    source = source_digest(manifest, component)
    profiles = tuple(profile.profile for profile in named)
    # A cache of timings changes how long a build takes, and is no part of what the engine is.
    told = {name: value for name, value in asdict(knobs).items() if name != "timing_cache"}
    decides = [
        source,
        library.name,
        library.version,
        targets.capabilities,
        targets.gpu,
        [asdict(p) for p in profiles],
        told,
    ]
    key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    files = source_files(manifest, component)
    spec = manifest.component(component)
    return EngineSpec(
        component=component,
        file=f"{ENGINES_FOLDER}/{_name(component, named, key)}.plan",
        library=library.name,
        library_version=library.version,
        targets=targets.capabilities,
        gpu="" if knobs.hardware_compatible else targets.gpu,
        precision=precision,
        profiles=profiles,
        inputs=spec.inputs,
        outputs=spec.outputs,
        bytes=0,
        sha256="",
        source_sha256=source,
        source_bytes=sum(manifest.files[name].bytes for name in files),
        key=key,
        refittable=knobs.refittable,
        stripped=knobs.strip,
        version_compatible=knobs.version_compatible,
        hardware_compatible=knobs.hardware_compatible,
        weight_streaming=knobs.weight_streaming,
        workspace_bytes=None if knobs.workspace_mib is None else knobs.workspace_mib << 20,
        optimization_level=knobs.optimization_level,
        max_aux_streams=knobs.max_aux_streams,
    )
