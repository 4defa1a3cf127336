"""How much of a Ray cluster `--ray` takes: replicas, and what each of them has. Must not import numpy or Pillow."""

from dataclasses import dataclass

from pixrt.errors import OptionError
from pixrt.options.fields import option, validate

_RAY = "Ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareOptions:
    """Replicas, and the share of a node that each has. Validated on construction: OptionError."""

    replicas: int = option(
        1,
        "With --ray: processes that hold the bundle, on whichever node.",
        kind="whole",
        low=1,
        high=10_000,
        group=_RAY,
    )
    replica_cpus: float = option(
        1.0,
        "With --ray: cores that each replica reserves; without --threads it computes with as many.",
        kind="number",
        low=0,
        high=1024,
        group=_RAY,
    )
    replica_gpus: float = option(
        0.0,
        "With --ray: GPUs that each replica reserves; a part such as 0.5 shares one.",
        kind="number",
        low=0,
        high=1,
        group=_RAY,
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions(ShareOptions):
    """How `pixrt serve --ray` is spread, and when it grows. Validated on construction: OptionError."""

    max_replicas: int | None = option(
        None,
        "With --ray: replicas when there is much to do; as many as --replicas by default.",
        kind="whole",
        low=1,
        high=10_000,
        group=_RAY,
    )
    scale_seconds: float = option(
        10.0,
        "With --ray: replicas are started, or ended, so that each has about so many seconds of work ahead of it.",
        kind="number",
        above=0,
        high=86_400,
        group=_RAY,
    )

    def __post_init__(self) -> None:
        ShareOptions.__post_init__(self)  # super() does not find it: dataclasses with slots are made twice
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise OptionError(
                f"max_replicas is {self.max_replicas}, and replicas is {self.replicas}",
                remedy="Give a --max-replicas that is no less",
                option="max_replicas",
            )
