"""FLOPs and bytes of graphs whose work is known, and of a real UNet beside PyTorch's counter."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pixrt.bundles.store import BUILT_IN
from pixrt.errors import BundleError
from pixrt_export.bench.work import Work, count_model, count_work

CHECKPOINT = Path(__file__).parent.parent / "data" / "shapes_checkpoint"
FLOAT = TensorProto.FLOAT


def model(*nodes: onnx.NodeProto, **weights: np.ndarray) -> onnx.ModelProto:
    """A graph from `x` [rows, 3, height, width] to `y`."""
    given = helper.make_tensor_value_info("x", FLOAT, ("rows", 3, "height", "width"))
    made = helper.make_tensor_value_info("y", FLOAT, None)
    initializers = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(list(nodes), "graph", [given], [made], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_a_convolution_and_a_product() -> None:
    """The product's shape is calculated in the graph, from floating-point numbers, as exporters write it."""
    graph = model(
        helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]),  # [2, 5, 8, 16]
        helper.make_node("Shape", ["c"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["f", "factors"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["wanted"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["c", "wanted"], ["r"]),  # [2, 5, 16, 8]
        helper.make_node("MatMul", ["r", "w"], ["y"]),  # [2, 5, 16, 7]
        kernel=np.zeros((5, 3, 3, 3), np.float32),
        factors=np.array([1, 1, 2, 0.5], np.float32),
        w=np.zeros((8, 7), np.float32),
    )
    convolution, product = 2 * (2 * 5 * 8 * 16) * 27, 2 * (2 * 5 * 16 * 7) * 8
    numbers = (2 * 3 * 8 * 16 + 5 * 27 + 2 * 5 * 8 * 16) + (2 * 5 * 16 * 8 + 8 * 7 + 2 * 5 * 16 * 7)
    assert count_model(graph, {"x": (2, 3, 8, 16)}) == Work(convolution + product, 4 * numbers)


def test_a_shape_that_depends_on_values_is_told() -> None:
    graph = model(
        helper.make_node("NonZero", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=FLOAT),
        helper.make_node("MatMul", ["w", "f"], ["y"]),
        w=np.zeros((7, 4), np.float32),
    )
    with pytest.raises(BundleError, match="'f' in the graph is not known"):
        count_model(graph, {"x": (1, 3, 8, 8)})


@pytest.mark.torch
def test_the_unet_is_counted_as_pytorch_counts_it() -> None:
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import AttnProcessor
    from torch.utils.flop_counter import FlopCounterMode

    unet = UNet2DConditionModel.from_pretrained(CHECKPOINT, subfolder="unet")
    unet.set_attn_processor(AttnProcessor())  # the counter does not know the CPU's fused attention
    rows, side, width = 2, 16, unet.config.cross_attention_dim
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        unet(torch.zeros(rows, 8, side, side), torch.zeros(rows), torch.zeros(rows, 77, width))
    shapes = {"sample": (rows, 8, side, side), "timestep": (rows,), "encoder_hidden_states": (rows, 77, width)}
    counted = count_work(BUILT_IN / "shapes" / "unet.onnx", shapes).flops
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)
