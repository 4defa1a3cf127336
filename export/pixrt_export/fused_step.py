"""The fused step graph, built around a UNet's graph and checked against it; `pixrt.core.fused` says what it computes.

The UNet's nodes and weights are taken as they are; weights that stand beside the UNet's file are not written again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.helper import make_node, make_tensor_value_info

from pixrt.bundles.manifest import ExportCheck
from pixrt.core.fused import PAUSED, STEP_TABLE, STEPS
from pixrt.core.track import COLUMNS, DEPTH, GUIDANCE, steps_of
from pixrt.errors import ExportMismatch
from pixrt.maths.guidance import Branch
from pixrt.maths.solvers import build_table
from pixrt_export.tracing import open_session

FLOAT, HALF, INT32, INT64 = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.INT32,
    onnx.TensorProto.INT64,
)
# One step's deviation from the same step out of the UNet's graph and NumPy, relative to the largest value. The network
# is the same; the sums around it are in FP32 on both sides, in another order.
TOLERANCE = 1e-3
STEER = 0.1
Arrays = dict[str, np.ndarray[Any, Any]]
# PNDM looks back on four predictions; Euler scales its input, and the ancestral one adds noise.
_STEPS = (("pndm", 8), ("euler_ancestral", 6))
_NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}  # Stable Diffusion's


def write_step_graph(unet: Path, target: Path) -> None:
    """Write the fused step around the UNet at `unet` to `target`, in the same folder."""
    model = onnx.load(str(unet), load_external_data=False)
    graph, build = model.graph, _Builder("before")
    types = {value.name: value.type.tensor_type for value in (*graph.input, *graph.output)}
    kind = types["sample"].elem_type
    channels = types["out_sample"].shape.dim[1].dim_value
    extra = types["sample"].shape.dim[1].dim_value - channels
    width = types["encoder_hidden_states"].shape.dim[2].dim_value
    weights = {tensor.name for tensor in graph.initializer}
    defaults = [value for value in graph.input if value.name in weights]  # what fp16-weights stores as inputs

    rows = build("Reshape", ["table", build.ints("every_row", [-1, len(STEP_TABLE)])])
    row = build("Gather", [rows, "at"], axis=0)  # [B, STEP_TABLE]
    plain = len(COLUMNS) - DEPTH
    numbers, weights_of, timesteps, paused = build.split(row, [len(COLUMNS), len(GUIDANCE), 1, 1])
    # Each slot's timestep, for its rows.
    flat = build("Squeeze", [timesteps, build.ints("axis_1", [1])])
    build("Gather", [flat, "row_to_latents"], axis=0, output="timestep")
    is_paused = build("Greater", [paused, build.number("half", 0.5)])  # [B, 1]
    table = build("Unsqueeze", [numbers, build.ints("axes_23", [2, 3])])  # [B, COLUMNS, 1, 1]
    columns = build.split(table, [1] * plain + [DEPTH])
    at = dict(zip(COLUMNS, columns[:-1], strict=False))
    scaled = build("Mul", ["latents", at["input_scale"]])
    noisy = build("Gather", [scaled, "row_to_latents"], axis=0)  # [R, C, h, w]
    if kind == HALF:
        noisy = build("Cast", [noisy], to=HALF)
    halves = [noisy]
    if extra:
        halves.append(build("Gather", ["source", "row_to_source"], axis=0))
    build("Concat", halves, axis=1, output="sample")

    after = _Builder("after")
    output = after("Cast", ["out_sample"], to=FLOAT) if kind == HALF else "out_sample"
    picked = after("Gather", [output, "branch_rows"], axis=0)  # [B, 3, C, h, w]
    weight = after("Unsqueeze", [weights_of, after.ints("axes_234", [2, 3, 4])])
    ones = after.ints("axis_1", [1])
    guided = after("ReduceSum", [after("Mul", [picked, weight]), ones], keepdims=0)
    past = after("Mul", ["history", after("Unsqueeze", [columns[-1], after.ints("axis_2", [2])])])
    stored = after.linear(at["store_x"], at["store_output"], guided)
    after.linear(at["denoised_x"], at["denoised_output"], guided, output="denoised")
    moved = after.linear(at["x"], at["output"], guided)
    moved = after("Add", [moved, after("Mul", ["noise", at["noise"]])])
    moved = after("Add", [moved, after("ReduceSum", [past, ones], keepdims=0)])
    free = after("Sub", [after.number("whole", 1.0), after("Mul", ["where", at["loss"]])])
    sources = (("anchor", "anchor_alpha"), ("anchor_noise", "anchor_sigma"), ("denoised", "anchor_denoised"))
    known = after("Sum", [after("Mul", [source, at[column]]) for source, column in sources])
    held = after("Mul", ["where", known])
    keeps = after("Unsqueeze", [is_paused, after.ints("axes_23", [2, 3])])  # [B, 1, 1, 1]
    after("Where", [keeps, "latents", after("Add", [after("Mul", [free, moved]), held])], output="next_latents")
    bounds = (after.ints("newest", [0]), after.ints("kept", [DEPTH - 1]), ones)
    kept = after("Slice", ["history", *bounds])
    shifted = after("Concat", [after("Unsqueeze", [stored, ones]), kept], axis=1)
    keeps = after("Unsqueeze", [keeps, after.ints("axis_4", [4])])
    after("Where", [keeps, "history", shifted], output="next_history")

    for node in graph.node:
        node.input[:] = ["context" if name == "encoder_hidden_states" else name for name in node.input]
    nodes = [*build.nodes, *graph.node, *after.nodes]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*build.constants, *after.constants])
    latents = ["batch", channels, "height", "width"]
    history = ["batch", DEPTH, channels, "height", "width"]
    inputs = {
        "latents": (FLOAT, latents),
        "history": (FLOAT, history),
        "noise": (FLOAT, latents),
        "source": (kind, ["sources", extra, "height", "width"]),
        "context": (kind, ["rows", "tokens", width]),
        "row_to_latents": (INT32, ["rows"]),
        "row_to_source": (INT32, ["rows"]),
        "branch_rows": (INT32, ["batch", len(Branch)]),
        "table": (FLOAT, ["batch", STEPS, len(STEP_TABLE)]),
        "at": (INT32, ["batch"]),
        "where": (FLOAT, ["batch", 1, "height", "width"]),
        "anchor": (FLOAT, latents),
        "anchor_noise": (FLOAT, latents),
    }
    if not extra:
        del inputs["source"], inputs["row_to_source"]
    outputs = {"next_latents": latents, "next_history": history, "denoised": latents}
    graph.input.extend([make_tensor_value_info(name, *value) for name, value in inputs.items()])
    graph.input.extend(defaults)
    graph.output.extend([make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()])
    onnx.save(model, str(target))
    onnx.checker.check_model(str(target))


class _Builder:
    """Nodes in order, each output with a name of its own."""

    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = prefix

    def __call__(self, operator: str, inputs: Sequence[str], *, output: str | None = None, **attributes: Any) -> str:
        name = output or self._name(operator)
        self.nodes.append(make_node(operator, list(inputs), [name], f"{self._name(operator)}/node", **attributes))
        return name

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """Parts of a value along axis 1."""
        names = [f"{self._name('part')}_{number}" for number in range(len(sizes))]
        self.nodes.append(
            make_node(
                "Split",
                [value, self.ints(f"sizes_{len(self.nodes)}", sizes)],
                names,
                f"{self._name('Split')}/node",
                axis=1,
            )
        )
        return names

    def linear(self, x: str, factor: str, guided: str, *, output: str | None = None) -> str:
        """`x * latents + factor * guided`."""
        return self("Add", [self("Mul", ["latents", x]), self("Mul", [guided, factor])], output=output)

    def ints(self, name: str, values: Sequence[int]) -> str:
        """A constant of whole numbers."""
        self.constants.append(onnx.helper.make_tensor(f"step/{self._prefix}/{name}", INT64, [len(values)], values))
        return self.constants[-1].name

    def number(self, name: str, value: float) -> str:
        """A constant number."""
        self.constants.append(onnx.helper.make_tensor(f"step/{self._prefix}/{name}", FLOAT, [], [value]))
        return self.constants[-1].name

    def _name(self, kind: str) -> str:
        return f"step/{self._prefix}/{len(self.nodes)}_{kind}"


def check_step_graph(unet: Path, step: Path, seed: int = 0) -> ExportCheck:
    """One step of three slots (two at different steps, with five rows, one paused) against the UNet's graph and NumPy.

    The next latents are held to the tolerance as they are. Predictions are sums over the branches, which multiply the
    rounding of an FP16 network's outputs by up to the sum of guidance's weights: their error is divided by that. Raises
    ExportMismatch beyond the tolerance, or where values are not finite.
    """
    session = open_session(step)
    given = _example(session, np.random.default_rng(seed))
    expected = _reference(open_session(unet), given)
    made = dict(zip(expected, session.run(list(expected), given), strict=True))
    allowed = dict.fromkeys(expected, np.abs(_picked(given)[1]).sum(1).max()) | {"next_latents": 1.0}
    errors = [
        np.abs(made[name] - value).ravel() / np.abs(value).max() / allowed[name] for name, value in expected.items()
    ]
    every = np.concatenate(errors)
    result = ExportCheck(float(every.max()), float(every.mean()), TOLERANCE)
    if not result.max_error <= result.tolerance:  # also for NaN
        raise ExportMismatch(
            f"{step.name} differs from the UNet's own step by {result.max_error:.2e} of the largest value, more than"
            f" {result.tolerance:.0e}",
            remedy="Export without --fused-step, and report the checkpoint's architecture",
        )
    return result


def _example(session: Any, draw: np.random.Generator) -> Arrays:
    """Inputs for two pictures at different steps of different solvers, which together use every coefficient.

    The first has three branches, the second two, the third slot is paused; what the loop computes before the step is
    drawn.
    """
    sizes = {"batch": 3, "rows": 5, "sources": 4, "tokens": 77, "height": 8, "width": 12}
    dtypes = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int32)": np.int32}
    given: dict[str, Any] = {}
    for value in session.get_inputs():
        shape = [sizes.get(size, size) for size in value.shape]
        given[value.name] = draw.standard_normal(shape).astype(dtypes[value.type])
    guidance = ((7.5, -6, -0.5), (3, -2, 0))
    for slot, ((solver, step), weights, timestep) in enumerate(zip(_STEPS, guidance, (901.5, 41), strict=True)):
        given["table"][slot, step] = (*_coefficients(solver, step), *weights, timestep, 0)
    given["table"][2, PAUSED, -1] = 1
    steps = (*(step for _, step in _STEPS), PAUSED)
    given |= {
        "at": np.array([step + slot * STEPS for slot, step in enumerate(steps)], np.int32),
        "row_to_latents": np.array([0, 1, 0, 1, 0], np.int32),
        "branch_rows": np.array([[0, 2, 4], [1, 3, 1], [0, 0, 0]], np.int32),
    }
    given["where"] = draw.random(given["where"].shape, np.float32)
    scale = _picked(given)[0][:2, :1, None, None]
    given["latents"][:2] /= scale  # as large as the solver's own scale has them
    if "source" in given:
        given["row_to_source"] = np.array([0, 1, 0, 1, 3], np.int32)
    return given


def _coefficients(scheduler: str, step: int) -> np.ndarray[Any, Any]:
    """One step's, of a state that is held: and its clean latents are steered, too, which no task does at once.

    Steered a little: the rounding of an FP16 network's prediction comes into the next latents by that share.
    """
    table = build_table(scheduler, _NOISE, 20)
    nothing = np.zeros((len(table), len(Branch)))
    held, steered = (steps_of(table, nothing, steer).coefficients for steer in (None, np.full(len(table), STEER)))
    row: np.ndarray[Any, Any] = held[step].copy()
    row[COLUMNS.index("anchor_denoised")] = steered[step, COLUMNS.index("anchor_denoised")]
    return row


def _picked(given: Arrays) -> tuple[np.ndarray[Any, Any], ...]:
    """Coefficients `[B, COLUMNS]`, guidance `[B, 3]`, timesteps `[B]` and whether paused `[B]`, of the rows of `at`."""
    rows = given["table"].reshape(-1, len(STEP_TABLE))[given["at"]]
    split = len(COLUMNS)
    return rows[:, :split], rows[:, split : split + len(Branch)], rows[:, -2], rows[:, -1] > 0.5


def _reference(unet: Any, given: Arrays) -> Arrays:
    """The same step in NumPy, with the UNet's own graph; see `pixrt.core.fused`."""
    latents = given["latents"]
    coefficients, guidance, timesteps, paused = _picked(given)
    c = dict(zip(COLUMNS, coefficients.T[:, :, None, None, None], strict=True))  # [B, 1, 1, 1] each
    halves = [(latents * c["input_scale"])[given["row_to_latents"]].astype(given["context"].dtype)]
    if "source" in given:
        halves.append(given["source"][given["row_to_source"]])
    feeds = {
        "sample": np.concatenate(halves, 1),
        "timestep": timesteps[given["row_to_latents"]],
        "encoder_hidden_states": given["context"],
    }
    rows = unet.run(["out_sample"], feeds)[0].astype(np.float32)
    guided = (guidance[:, :, None, None, None] * rows[given["branch_rows"]]).sum(1)
    past = sum(c[f"history_{k}"] * given["history"][:, k] for k in range(DEPTH))
    stored = c["store_x"] * latents + c["store_output"] * guided
    moved = c["x"] * latents + c["output"] * guided + c["noise"] * given["noise"] + past
    denoised = c["denoised_x"] * latents + c["denoised_output"] * guided
    known = c["anchor_alpha"] * given["anchor"] + c["anchor_sigma"] * given["anchor_noise"]
    known += c["anchor_denoised"] * denoised
    advanced = (1 - given["where"] * c["loss"]) * moved + given["where"] * known
    shifted = np.concatenate([stored[:, None], given["history"][:, : DEPTH - 1]], 1)
    return {
        "next_latents": np.where(paused[:, None, None, None], latents, advanced),
        "next_history": np.where(paused[:, None, None, None, None], given["history"], shifted),
        "denoised": denoised,
    }
