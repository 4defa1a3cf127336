"""DeepCache (Ma et al. 2023, arXiv:2312.00858): a UNet that also gives what its deep layers made, and the shallow rest.

The UNet's decoder takes its skip connections one by one, the innermost first. Where it takes the one that
`cache_branch_id` counts, from outside, the graph is cut: what came from below is the feature; what is behind the cut,
with the layers that make the skip connections that it takes, is the shallow network. The count is that of the DeepCache
package. Both graphs have the same nodes and weights; weights that stand beside the UNet's file are not written again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.helper import make_node, make_tensor_value_info

from pixrt.bundles.manifest import DeepCacheSpec, ExportCheck, Precision
from pixrt.core.rows import FEATURE
from pixrt.errors import CheckpointError, ExportMismatch, OptionError
from pixrt_export.check import TOLERANCE, Reference
from pixrt_export.tracing import open_session

Values = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a UNet is cut: the layer that takes the feature and the skip connection, and the feature's channels."""

    layer: torch.nn.Module
    channels: int
    spec: DeepCacheSpec


@dataclass(frozen=True, slots=True)
class DeepReference:
    """Inputs; the feature that PyTorch makes of them; what it makes of them with another feature in its place."""

    inputs: dict[str, Values]
    feature: Values
    other: Values
    output: Values


class DeepCache:
    """The shallow network of one export: cut off the UNet when it was traced, written when it was converted.

    `config` is the UNet's. Raises OptionError where it has no such skip connection.
    """

    def __init__(self, branch: int, config: Mapping[str, Any]) -> None:
        layers, blocks = config.get("layers_per_block", 2), len(config["up_block_types"])
        skips = sum(each + 1 for each in ([layers] * blocks if isinstance(layers, int) else layers))
        if branch >= skips:
            raise OptionError(
                f"cache_branch_id is {branch}, and the UNet has {skips} skip connections",
                remedy=f"Choose one from 0, the shallowest network, to {skips - 1}",
                option="cache_branch_id",
            )
        self._branch = branch
        self._references: list[DeepReference] = []
        self.spec = DeepCacheSpec(branch, 1)

    def cut(self, unet: Any, traced: Path, given: Sequence[Reference]) -> None:
        """Make the feature an output of the graph at `traced`, and remember what PyTorch makes."""
        cut = find_cut(unet, self._branch)
        self.spec = cut.spec
        give_feature(traced, cut)
        self._references = deep_references(unet, cut, given)

    def write(self, unet: Path, target: Path, precision: Precision) -> ExportCheck:
        """Write and check the shallow network of the UNet's graph. Raises CheckpointError, ExportMismatch."""
        write_shallow(unet, target, self._branch)
        return check_deep(unet, target, self._references, precision)


def find_cut(unet: Any, branch: int) -> Cut:
    """The cut of a UNet at a skip connection that it has."""
    layers = [(block, number) for block, each in enumerate(unet.up_blocks) for number in range(len(each.resnets))]
    block, number = layers[-1 - branch]
    if number:
        below = unet.up_blocks[block].resnets[number - 1]
    else:
        below = (unet.up_blocks[block - 1] if block else unet.mid_block).resnets[-1]
    # Each block from here on that ends by doubling the size makes a feature's position stand for twice as many latents.
    doublings = sum(each.upsamplers is not None for each in list(unet.up_blocks)[block:])
    return Cut(
        unet.up_blocks[block].resnets[number], below.out_channels, DeepCacheSpec(branch, scale=int(2**doublings))
    )


def deep_references(unet: Any, cut: Cut, given: Sequence[Reference]) -> list[DeepReference]:
    """Run PyTorch on the inputs of references, and again with their features turned upside down."""
    made = []
    for reference in given:
        inputs = {name: torch.from_numpy(values) for name, values in reference.inputs.items()}
        with torch.no_grad(), _at(cut) as features:
            unet(**inputs)
        (feature,) = features
        other = feature.flip(2)
        with torch.no_grad(), _at(cut, other):
            output = unet(**inputs)[0]
        made.append(DeepReference(reference.inputs, feature.numpy(), other.numpy(), output.numpy()))
    return made


@contextmanager
def _at(cut: Cut, instead: torch.Tensor | None = None) -> Iterator[list[torch.Tensor]]:
    """The features of the forward passes meanwhile, which have another one in their place if it is given."""
    features: list[torch.Tensor] = []

    def hook(module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        joined, *others = given  # the feature, then the skip connection
        features.append(joined[:, : cut.channels].clone())
        if instead is not None:
            joined = torch.cat([instead, joined[:, cut.channels :]], dim=1)
        return joined, *others

    handle = cut.layer.register_forward_pre_hook(hook)
    try:
        yield features
    finally:
        handle.remove()


def give_feature(path: Path, cut: Cut) -> None:
    """Make the feature an output of the traced UNet at `path`."""
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    name = _join(graph, cut.spec.cache_branch_id).input[0]
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [FEATURE if each == name else each for each in names]
    others = [value for value in graph.value_info if value.name != name]
    del graph.value_info[:]
    graph.value_info.extend(others)
    kind = graph.output[0].type.tensor_type.elem_type
    shape: list[str | int | None] = ["batch", cut.channels, "deep_height", "deep_width"]
    graph.output.append(make_tensor_value_info(FEATURE, kind, shape))
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path))


def write_shallow(unet: Path, target: Path, branch: int) -> None:
    """Write the shallow network of the UNet at `unet`, which gives its feature, to `target` in the same folder."""
    model = onnx.load(str(unet), load_external_data=False)
    graph = model.graph
    (feature,) = (value for value in graph.output if value.name == FEATURE)
    outputs = [value for value in graph.output if value.name != FEATURE]
    join = _join(graph, branch)
    nodes = _needed(graph, outputs, join)
    # A graph in FP16 may have a part in FP32, and the cut in it: the feature is cast as the UNet's output was.
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    kind = kinds.get(join.input[0], feature.type.tensor_type.elem_type)
    taken = FEATURE
    if kind != feature.type.tensor_type.elem_type:
        taken = f"{FEATURE}/cast"
        nodes.insert(0, make_node("Cast", [FEATURE], [taken], f"{taken}/Cast", to=kind))
    join.input[0] = taken
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    stored = {tensor.name for tensor in graph.initializer}
    # What fp16-weights stores are inputs with a default.
    inputs = [value for value in graph.input if value.name not in stored or value.name in used]
    first = [value for value in inputs if value.name not in stored]
    defaults = [value for value in inputs if value.name in stored]
    for old, new in (
        (graph.node, nodes),
        (graph.initializer, weights),
        (graph.input, [*first, feature, *defaults]),
        (graph.output, outputs),
    ):
        kept = list(new)
        del old[:]
        old.extend(kept)
    del graph.value_info[:]
    onnx.save(model, str(target))
    onnx.checker.check_model(str(target))


def _join(graph: onnx.GraphProto, branch: int) -> onnx.NodeProto:
    """The node that joins the feature and the skip connection: the decoder's joins are the graph's last on channels."""
    joins: list[onnx.NodeProto] = [
        node for node in graph.node if node.op_type == "Concat" and _axis(node) == 1 and len(node.input) == 2
    ]
    return joins[-1 - branch]


def _axis(node: onnx.NodeProto) -> int | None:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "axis"), None)


def _needed(
    graph: onnx.GraphProto, outputs: Sequence[onnx.ValueInfoProto], join: onnx.NodeProto
) -> list[onnx.NodeProto]:
    """The nodes that make the outputs out of the feature, in order. Raises CheckpointError if they make it, too."""
    makers = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    left = [value.name for value in outputs]
    while left:
        node = makers.get(left.pop())
        if node is None or node.output[0] in found:
            continue
        found.add(node.output[0])
        left += list(node.input)[1:] if node.output[0] == join.output[0] else list(node.input)
    if makers[join.input[0]].output[0] in found:
        raise CheckpointError(
            "the UNet's last layers take more of its deep ones than the feature at the cut",
            remedy="Export without --deep-cache",
        )
    return [node for node in graph.node if node.output[0] in found]


def check_deep(unet: Path, shallow: Path, given: Sequence[DeepReference], precision: Precision) -> ExportCheck:
    """The UNet's feature, and what the shallow network makes of another one, against PyTorch.

    Each relative to its own largest value. Raises ExportMismatch beyond the tolerance or for values not finite.
    """
    networks = [open_session(path) for path in (unet, shallow)]
    errors: list[Values] = []
    for reference in given:
        fed = reference.inputs | {FEATURE: reference.other}
        expected = reference.feature, reference.output
        for session, name, wanted in zip(networks, (FEATURE, "out_sample"), expected, strict=True):
            dtypes = {
                each.name: np.float16 if each.type == "tensor(float16)" else None for each in session.get_inputs()
            }
            feeds = {key: fed[key].astype(dtype or fed[key].dtype) for key, dtype in dtypes.items() if key in fed}
            (made,) = session.run([name], feeds)
            largest = float(np.abs(wanted).max()) or 1.0
            errors.append(np.abs(made.astype(np.float64) - wanted).ravel() / largest)
    every = np.concatenate(errors)
    result = ExportCheck(max_error=float(every.max()), mean_error=float(every.mean()), tolerance=TOLERANCE[precision])
    if not result.max_error <= result.tolerance:  # also for NaN
        raise ExportMismatch(
            f"the shallow network differs from PyTorch by {result.max_error:.2e} of its largest value (mean"
            f" {result.mean_error:.2e}), more than {result.tolerance:.0e}",
            remedy="Export without --deep-cache, and report the checkpoint's architecture",
        )
    return result
