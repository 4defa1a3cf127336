"""Which layers lose most when they are quantised, measured, and kept back until the rest is good enough."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from pixrt_export.quantisation.capture import OUTPUT, Row, inputs_of
from pixrt_export.quantisation.qdq import SWITCHES, QuantisedGraph
from pixrt_export.tracing import files_of, open_session, save

# Layers are put back until the output's relative RMS error is this, or they are this share of the work.
ERROR_BOUND = 0.02
MOST_KEPT = 0.10
# With more layers than this, whole blocks are measured, and then the layers of the worst.
MOST_RUNS = 160
_BATCH = 4  # rows in one run: weights are switched once for all of them
_DEPTH = 2  # parts of a name that make a block: /down_blocks.0/resnets.1


@dataclass(frozen=True, slots=True)
class Choice:
    """The layers that stay in FP32, each with the error that it makes when it alone is quantised.

    Errors are the RMS error of the network's output, relative to the RMS of that output: `error_of_all` with every
    layer quantised, `error` with these kept. `kept_macs` is their share of the network's work.
    """

    kept: dict[str, float]
    kept_macs: float
    error_of_all: float
    error: float


def choose_layers(
    quantised: Path, rows: Sequence[Row], macs: Mapping[str, int], on_run: Callable[[str], None]
) -> Choice:
    """Measure the layers of a quantised graph, in which weights are FP32 still, on rows that it was not calibrated on.

    The graph is run with a switch for each layer, so that it is opened once. Those that lose most are kept first,
    unless they are too much work.
    """
    model = onnx.load(str(quantised))
    graph = QuantisedGraph(model)
    layers = graph.layers
    graph.add_switches([[name] for name in layers])
    switched = quantised.with_name(f"{quantised.stem}.switched.onnx")
    try:
        save(model, switched)
        del model, graph
        measure = _Measure(switched, rows, layers)
        alone = _each_alone(measure, layers, on_run)
    finally:
        for file in files_of(switched):
            file.unlink(missing_ok=True)
    error_of_all = error = measure(layers)
    kept: dict[str, float] = {}
    budget, share = sum(macs.values()), 0.0
    for name in sorted(alone, key=lambda name: -alone[name]):
        if error <= ERROR_BOUND:
            break
        if share + macs[name] / budget <= MOST_KEPT:
            on_run(f"keeping {len(kept) + 1}")
            kept[name], share = alone[name], share + macs[name] / budget
            error = measure([each for each in layers if each not in kept])
    return Choice(kept, share, error_of_all, error)


def _each_alone(measure: "_Measure", layers: Sequence[str], on_run: Callable[[str], None]) -> dict[str, float]:
    """The error of layers, each quantised alone; of all of them, or of those in the blocks that lose most."""
    if len(layers) > MOST_RUNS:
        blocks = defaultdict(list)
        for name in layers:
            blocks["/".join(name.split("/")[: _DEPTH + 1])].append(name)
        errors = {}
        for number, (block, names) in enumerate(blocks.items()):
            on_run(f"block {number + 1} of {len(blocks)}")
            errors[block] = measure(names)
        left, chosen = MOST_RUNS - len(blocks), list[str]()
        for block in sorted(errors, key=lambda block: -errors[block]):
            if len(chosen) + len(blocks[block]) <= left:
                chosen += blocks[block]
        layers = chosen
    alone = {}
    for number, name in enumerate(layers):
        on_run(f"layer {number + 1} of {len(layers)}")
        alone[name] = measure([name])
    return alone


class _Measure:
    """The error of a graph with switches, when these layers are quantised and the others are not."""

    def __init__(self, path: Path, rows: Sequence[Row], layers: Sequence[str]) -> None:
        self._session = open_session(path)
        batches = [rows[at : at + _BATCH] for at in range(0, len(rows), _BATCH)]
        self._feeds = [
            {name: np.concatenate([row[name] for row in batch]) for name in inputs_of(batch[0])} for batch in batches
        ]
        self._expected = np.concatenate([row[OUTPUT] for row in rows]).astype(np.float64)
        self._layers = layers

    def __call__(self, quantised: Sequence[str]) -> float:
        chosen = set(quantised)
        switches = np.array([name in chosen for name in self._layers])
        made = [self._session.run(None, {**feeds, SWITCHES: switches})[0] for feeds in self._feeds]
        return relative_rms(np.concatenate(made), self._expected)


def relative_rms(found: np.ndarray, expected: np.ndarray) -> float:
    """RMS of the difference over the RMS of what is expected."""
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))
