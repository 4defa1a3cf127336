"""On which edits a network is calibrated: training-side samples of a world, or a folder's. Must not import PyTorch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixrt.bundles.manifest import Manifest
from pixrt.errors import DataError, OptionError
from pixrt.options.tasks import EditOptions, GenerateOptions, Options
from pixrt.tasks.jobs import Job
from pixrt_export.data.folders import open_pairs
from pixrt_export.data.pairs import PairSet
from pixrt_export.photo.pairs import PhotoPairs
from pixrt_export.world.pairs import WorldPairs

# A bundle of more steps is calibrated on so many: they are spread over the same noise levels.
MOST_STEPS = 20
_FOLDER = "Pass --calibrate with a folder of pictures and instructions, such as `pixrt data check` knows"


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """Samples in the order in which they are taken; `name` says in a manifest which they are."""

    pairs: PairSet
    name: str
    order: tuple[int, ...]


def calibration_set(
    folder: str | None, instructions: Mapping[str, Sequence[str]], count: int, seed: int, *, is_edit: bool
) -> CalibrationSet:
    """The samples for a checkpoint that was taught these instructions: a folder's, or those of the world it knows.

    `is_edit`: the network edits; else it makes pictures out of texts alone. Raises DataError, OptionError.
    """
    if folder is not None:
        pairs: PairSet = open_pairs(folder)
        if len(pairs) < count:  # before hours are spent
            raise _too_few(Path(folder).name, len(pairs), count)
        order = tuple(int(index) for index in np.random.default_rng(seed).permutation(len(pairs)))
        return CalibrationSet(pairs, Path(folder).name, order)
    # The training side: nothing that accuracy is measured on.
    worlds: tuple[WorldPairs | PhotoPairs, ...] = (WorldPairs(count, seed), PhotoPairs(count, seed))
    for world in worlds:
        if is_edit and instructions and instructions.keys() <= world.known().keys():
            return CalibrationSet(world, world.fingerprint(), tuple(range(count)))
    raise OptionError(
        "INT8 is calibrated on edits, and which ones this checkpoint can make is not known",
        remedy=_FOLDER,
        option="calibrate",
    )


def calibration_jobs(given: CalibrationSet, manifest: Manifest, count: int, seed: int) -> list[Job]:
    """So many edits as the bundle's users will make them: at its size, steps, scheduler and guidance.

    Samples without a source picture are passed over if the network edits. Raises DataError if there are too few,
    PictureError.
    """
    edits = manifest.task == "edit"
    kind: type[Options] = EditOptions if edits else GenerateOptions
    steps = min(manifest.defaults.steps, MOST_STEPS)
    jobs: list[Job] = []
    for index in given.order:
        pair = given.pairs.load(index, manifest.native_resolution)
        if edits and pair.source is None:
            continue
        options = kind(steps=steps, seed=seed + len(jobs))
        jobs.append(Job(options=options, text=pair.instruction, image=pair.source if edits else None))
        if len(jobs) == count:
            return jobs
    raise _too_few(given.name, len(jobs), count)


def _too_few(name: str, found: int, count: int) -> DataError:
    return DataError(
        f"{name} has {found} samples that can be run, and {count} are to be",
        remedy="Give a larger folder, or a smaller --calibration-edits",
    )
