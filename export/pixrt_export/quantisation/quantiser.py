"""The quantiser, NNCF. The only module that imports it."""

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import onnx

from pixrt.errors import PackageMissing
from pixrt_export.precision import Feeds
from pixrt_export.tracing import save


def require_quantiser() -> None:
    """Raise PackageMissing if it is not installed."""
    if find_spec("nncf") is None:
        raise PackageMissing(
            "quantising needs nncf, which cannot be imported here",
            remedy="Install what is missing: pip install 'pixrt[quantize]'",
        )


def quantise_graph(source: Path, target: Path, feeds: Sequence[Feeds]) -> None:
    """Write the FP32 graph at `source` with every convolution and matrix product quantised, by ranges on these inputs.

    Activations have one scale and a zero point, weights a scale for each output channel. Scales of activations are
    evened out into weights (SmoothQuant, Xiao et al. 2023), which changes nothing in FP32. Weights stay in FP32, with
    what quantises them behind them. Biases are not corrected: on edits that gained nothing.
    """
    os.environ.setdefault("NNCF_CI", "1")  # else it reports each use to its makers
    import nncf

    nncf.set_log_level(logging.ERROR)
    # Its size limit is of one file: weights that stand outside stay there.
    model = onnx.load(str(source), load_external_data=False)
    details = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix.DISABLE,  # half the range of weights, for processors without VNNI
        disable_bias_correction=True,
        backend_params={"external_data_dir": str(source.parent.absolute()), "compress_weights": False},
    )
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        quantised = nncf.quantize(
            model,
            nncf.Dataset(feeds),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(feeds),
            advanced_parameters=details,
        )
    save(quantised, target)
