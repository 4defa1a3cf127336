"""What a bundle says to those who say nothing: out of flags, another bundle, or how InstructPix2Pix is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixrt.bundles.manifest import MANIFEST_NAME, Defaults
from pixrt.bundles.store import find_bundle, read_manifest
from pixrt.maths.solvers import scheduler_name
from pixrt_export.options import ExportOptions

STEPS, GUIDANCE_SCALE, IMAGE_GUIDANCE_SCALE = 100, 7.5, 1.5


@dataclass(frozen=True, slots=True)
class Said:
    """The defaults of edits, the notice with every result, and instructions to begin with."""

    defaults: Defaults
    notice: str
    examples: tuple[str, ...]


def said_by(options: ExportOptions, saved: Mapping[str, Any]) -> Said:
    """What the options say, then the bundle of `defaults_from`; `saved` is the checkpoint's scheduler config.

    Raises BundleError for a bundle that cannot be read, OptionError for a scheduler that pixrt lacks.
    """
    kept, notice, examples = None, options.notice, options.examples
    if options.defaults_from is not None:
        manifest = read_manifest(find_bundle(options.defaults_from) / MANIFEST_NAME)
        kept, notice, examples = manifest.defaults, notice or manifest.notice, examples or manifest.examples
    measured = None if kept is None else (kept.steps, kept.guidance_scale, kept.image_guidance_scale, kept.scheduler)
    scheduler = options.scheduler or (kept.scheduler if kept else scheduler_name(saved))
    kept = kept or Defaults(STEPS, GUIDANCE_SCALE, IMAGE_GUIDANCE_SCALE, scheduler)
    given = (options.steps, options.guidance_scale, options.image_guidance_scale)
    own = (kept.steps, kept.guidance_scale, kept.image_guidance_scale)
    steps, scale, image_scale = (mine if one is None else one for one, mine in zip(given, own, strict=True))
    ladder = kept.ladder if (steps, scale, image_scale, scheduler) == measured else ()  # else it was not measured
    return Said(Defaults(int(steps), scale, image_scale, scheduler, ladder), notice, examples)
