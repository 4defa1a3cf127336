"""Pools over a network in NumPy, and tracks to run on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fakes import TOKENS, WIDTH
from pixrt.core.conditioning import Anchor, Conditioning
from pixrt.core.pool import HostPool
from pixrt.core.rows import Rows, TiledRows
from pixrt.core.track import Steps, Track, make_track, steps_of
from pixrt.maths.guidance import Branch, guidance_weights
from pixrt.maths.solvers import build_table
from pixrt.maths.tiles import Tiling

SIZE = (6, 10)
SHAPE = (4, *SIZE)
CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
Scales = tuple[float, float]


def pool_of(
    engine: Any,
    slots: int,
    size: tuple[int, int] = SIZE,
    tiling: Tiling | None = None,
    shallow: Any = None,
    feature_scale: int = 1,
) -> HostPool:
    most = slots * len(Branch)

    def rows(of: Any) -> Rows | TiledRows:
        if tiling is not None:
            return TiledRows(of, most, tiling, TOKENS, feature_scale=feature_scale)
        return Rows(of, most, size, TOKENS, feature_scale=feature_scale)

    return HostPool(rows(engine), slots, (4, *size), shallow and rows(shallow))


def given_to(seed: int, source: int = 4, size: tuple[int, int] = SIZE) -> dict[str, NDArray[np.float32]]:
    """Text, source latents and the empty text of a picture."""
    draw = np.random.default_rng(1000 + seed)
    text = draw.standard_normal((TOKENS, WIDTH), np.float32)
    return {
        "text": text,
        "source": draw.standard_normal((source, *size), np.float32),
        "null": np.full_like(text, 0.25),
    }


def conditioning_of(seed: int, source: int = 4, size: tuple[int, int] = SIZE, **more: Any) -> Conditioning:
    given = given_to(seed, source, size)
    contexts = {Branch.TEXT: given["text"], Branch.IMAGE: given["null"], Branch.UNCOND: given["null"]}
    beside = {Branch.TEXT: given["source"], Branch.IMAGE: given["source"]} if source else {}
    return Conditioning(contexts, beside, **more)


def steps_from(
    scheduler: str,
    scales: Scales = (7.5, 1.5),
    count: int = 6,
    *,
    interval: tuple[float, float] = (0.0, 1.0),
    start: int = 0,
    steer: float | None = None,
    branch_interval: int = 1,
    cache_interval: int = 1,
) -> Steps:
    table = build_table(scheduler, CONFIG, count, start=start)
    steering = None if steer is None else np.full(len(table), steer)
    weights = guidance_weights(len(table), *scales, interval)
    return steps_of(table, weights, steering, branch_interval, cache_interval)


def track_of(steps: Steps, seed: int, conditioning: Conditioning | None = None) -> Track:
    conditioning = conditioning or conditioning_of(seed)
    size = SIZE
    for each in conditioning.sources.values():
        size = each.shape[1:]
    return make_track(steps, seed, conditioning, (4, *size))


def anchor_of(seed: int, size: tuple[int, int] = SIZE) -> Anchor:
    draw = np.random.default_rng(seed)
    return Anchor(draw.standard_normal((4, *size), np.float32), draw.random((1, *size), np.float32).round())


def states_of(pool: Any, tracks: Sequence[Track]) -> list[list[NDArray[np.float32]]]:
    """All of them at once: of each track the state after every step."""
    slots = [pool.join(track) for track in tracks]
    found: list[list[NDArray[np.float32]]] = [[] for _ in tracks]
    left = dict(enumerate(slots))
    while left:
        ended = pool.step()
        for number, slot in tuple(left.items()):
            found[number].append(pool.latents(slot))
            if slot in ended:
                np.testing.assert_array_equal(pool.leave(slot), found[number][-1])
                del left[number]
    return found
