"""A training run as one value: model, data and options, read from a TOML file and flags. Must not import PyTorch."""

import dataclasses
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_type_hints

from pixrt.errors import OptionError
from pixrt_export.data.pairs import PairSet
from pixrt_export.training.options import LoopOptions
from pixrt_export.world.pairs import WorldPairs

Options = TypeVar("Options", bound=LoopOptions)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class DataOptions:
    """What to learn from: a folder of pairs, or the procedural world where there is none.

    Attributes:
        folder: a training set on disk, see `pixrt data check`.
        size: side of the training pictures in pixels.
        count, seed, captions, kind: of the world, see `WorldPairs`.
    """

    folder: str = ""
    size: int = 256
    count: int = 50_000
    seed: int = 0
    captions: float = 0.0
    kind: str = ""

    def open(self) -> PairSet:
        """The training set. Raises DataError."""
        if self.folder:
            from pixrt_export.data.folders import open_pairs

            return open_pairs(Path(self.folder))
        return WorldPairs(self.count, self.seed, "train", self.captions, self.kind or None)


@dataclass(frozen=True, slots=True)
class PreviewOptions:
    """How the grids of samples are made; with the world as data, also on how many held-out scenes edits are judged."""

    steps: int = 20
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    scheduler: str = "ddim"
    scenes: int = 48


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
    flags: Mapping[str, Any] = types.MappingProxyType({}),
) -> TrainingPlan[Options]:
    """Put a run together: defaults, then the TOML file, then what was given beside it. Raises OptionError."""
    table = _read_toml(config) if config else {}
    known = {"checkpoint", "networks", "data", "preview", "training"}
    for name in table.keys() - known:
        raise OptionError(f"{config} has the unknown key {name!r}", remedy=f"Known: {', '.join(sorted(known))}")
    checkpoint = checkpoint or table.get("checkpoint")
    networks = table.get("networks", {})
    given = table.get("data", {}) | ({"folder": data} if data else {})
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
    """A dataclass from a TOML table, every key and type checked."""
    hints = get_type_hints(kind)
    for name, value in table.items():
        if name not in hints:
            raise OptionError(f"[{section}] has the unknown key {name!r}", remedy=f"Known: {', '.join(hints)}")
        wanted = hints[name]
        if wanted is float and type(value) is int:
            continue
        if not (type(value) is wanted or (not isinstance(wanted, type) and value in get_args(wanted))):
            shown = getattr(wanted, "__name__", f"one of {', '.join(map(str, get_args(wanted)))}")
            raise OptionError(f"{name} in [{section}] is {value!r:.60}", remedy=f"It must be {shown}")
    return kind(**table)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"cannot read {path}: {error}", remedy="Give a TOML file, see export/configs") from error
