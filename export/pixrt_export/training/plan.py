"""A training run as one value: model, data and options, read from a TOML file and flags. Must not import PyTorch."""

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args

from pixrt.errors import OptionError
from pixrt.options.choices import SCHEDULERS
from pixrt.options.fields import option, option_fields, validate
from pixrt.reading import read_toml
from pixrt_export.data.options import SetOptions
from pixrt_export.data.pairs import JudgedPairs, PairSet
from pixrt_export.photo.instructions import ALL_KINDS
from pixrt_export.photo.pairs import PhotoPairs
from pixrt_export.training.options import LoopOptions
from pixrt_export.world.pairs import WorldPairs

Options = TypeVar("Options", bound=LoopOptions)
Value = TypeVar("Value")
World = Literal["shapes", "photo"]


@dataclass(frozen=True, slots=True)
class DataOptions(SetOptions):
    """What to learn from: a folder of pairs, or a world where there is none; see `WorldPairs` and `PhotoPairs`."""

    folder: str = option("", "A training set on disk, see `pixrt data check`.", kind="text")
    world: World = option("shapes", "Drawn shapes, or photographs.", kind="choice", choices=get_args(World))
    size: int = option(256, "Side of the training pictures in pixels.", kind="whole", low=1)
    count: int = option(50_000, "Samples of the world.", kind="whole", low=1)
    seed: int = option(0, "Which samples of the world are drawn.", kind="whole", low=0)
    captions: float = option(0.0, "Share of the world's samples that are captions.", kind="number", low=0, high=1)
    kind: str = option("", "Only instructions of this kind.", kind="text")
    often: str = option(
        "", "Kinds of edits of photographs that half of the samples are of, separated by commas.", kind="text"
    )

    def __post_init__(self) -> None:
        validate(self)
        if self.often and (self.folder or self.world != "photo" or self.kind):
            raise OptionError(
                "often is given, and it shares out the kinds of the world of photographs",
                remedy='Use it with world = "photo", without folder and kind',
            )
        unknown = [kind for kind in self.kinds_often if kind not in ALL_KINDS]
        if unknown:
            raise OptionError(f"often has {unknown[0]!r}", remedy=f"Choose of {', '.join(ALL_KINDS)}")
        if not self.folder and (self.columns or self.skip_missing):
            said = f"the column {self.columns[0]!r}" if self.columns else "skip_missing"
            raise OptionError(f"{said} is given, and no folder of pairs", remedy="Give --data, or leave it out")

    @property
    def kinds_often(self) -> tuple[str, ...]:
        """The kinds that `often` names."""
        return tuple(kind.strip() for kind in self.often.split(",") if kind.strip())

    def open(self) -> PairSet:
        """The training set. Raises DataError."""
        if self.folder:
            from pixrt_export.data.folders import open_pairs

            return open_pairs(Path(self.folder), self)
        if self.world == "photo":
            return PhotoPairs(self.count, self.seed, "train", self.kind or None, self.kinds_often)
        return WorldPairs(self.count, self.seed, "train", self.captions, self.kind or None)

    def held_out(self, count: int) -> JudgedPairs | None:
        """Samples of the world that training never shows; None for a folder, of which nobody knows what is right."""
        if self.folder:
            return None
        pairs = PhotoPairs if self.world == "photo" else WorldPairs
        return pairs(count, self.seed, "held-out", kind=self.kind or None)


@dataclass(frozen=True, slots=True)
class PreviewOptions:
    """How the grids of samples are made; with the world as data, also on how many held-out scenes edits are judged."""

    steps: int = option(20, "Denoising steps.", kind="whole", low=1, high=1000)
    guidance_scale: float = option(7.5, "How strongly the text is followed.", kind="number", low=0, high=100)
    image_guidance_scale: float = option(1.5, "How strongly the source is kept.", kind="number", low=0, high=100)
    scheduler: str = option("ddim", "The solver.", kind="choice", choices=SCHEDULERS)
    scenes: int = option(48, "Held-out scenes.", kind="whole", low=1)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, slots=True)
class TrainingPlan(Generic[Options]):
    """One run.

    Attributes:
        output: the run's folder.
        checkpoint: the diffusers-format model to start from; None for a new one out of `networks`.
        networks: diffusers' and transformers' configs of a new model: vae, unet, text_encoder, scheduler.
    """

    output: Path
    checkpoint: str | None
    networks: Mapping[str, Mapping[str, Any]]
    data: DataOptions
    preview: PreviewOptions
    training: Options

    def facts(self) -> dict[str, Any]:
        """All but the folder, as plain JSON values: what a run must not change when it goes on."""
        facts = dataclasses.asdict(dataclasses.replace(self, networks={}))
        del facts["output"]
        return {**facts, "networks": {name: dict(config) for name, config in self.networks.items()}}


def read_plan(
    kind: type[Options],
    output: Path,
    *,
    config: Path | None = None,
    checkpoint: str | None = None,
    data: str | None = None,
    data_flags: Mapping[str, Any] = types.MappingProxyType({}),
    flags: Mapping[str, Any] = types.MappingProxyType({}),
) -> TrainingPlan[Options]:
    """Put a run together: defaults, then the TOML file, then what was given beside it. Raises OptionError."""
    table = _read_toml(config) if config else {}
    known = {"checkpoint", "networks", "data", "preview", "training"}
    for name in table.keys() - known:
        raise OptionError(f"{config} has the unknown key {name!r}", remedy=f"Known: {', '.join(sorted(known))}")
    checkpoint = checkpoint or table.get("checkpoint")
    networks = table.get("networks", {})
    given = table.get("data", {}) | ({"folder": data} if data else {}) | dict(data_flags)
    plan = TrainingPlan(
        output=output,
        checkpoint=checkpoint,
        networks={} if checkpoint else networks,
        data=_build(DataOptions, given, "data"),
        preview=_build(PreviewOptions, table.get("preview", {}), "preview"),
        training=_build(kind, table.get("training", {}) | dict(flags), "training"),
    )
    if not checkpoint and not networks:
        raise OptionError(
            "there is no model to start from", remedy="Give --checkpoint, or a config with a [networks] section"
        )
    return plan


def _build(kind: type[Value], table: Mapping[str, Any], section: str) -> Value:
    """A dataclass from a TOML table, every key known. It checks the values itself: a table has types of its own."""
    known = option_fields(kind)
    for name in table:
        if name not in known:
            raise OptionError(f"[{section}] has the unknown key {name!r}", remedy=f"Known: {', '.join(known)}")
    try:
        return kind(**table)
    except OptionError as error:
        raise OptionError(f"[{section}] {error.problem}", remedy=error.remedy) from error


def _read_toml(path: Path) -> dict[str, Any]:
    def refuse(problem: str) -> OptionError:
        return OptionError(f"cannot read the config: {problem}", remedy="Give a TOML file, see export/configs")

    return read_toml(path, refuse)
