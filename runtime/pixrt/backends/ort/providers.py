"""Options of ONNX Runtime's execution providers: what pixrt sets, and what may be set besides.

A provider takes its options as text and refuses what it does not know only when a network is opened, some not even
then. So names are checked here first, against the tables of ONNX Runtime 1.20 to 1.32, and flags are written as all of
them read them. Must not import onnxruntime.
"""

import difflib
from collections.abc import Mapping

from pixrt.bundles.manifest import Manifest
from pixrt.errors import OptionError
from pixrt.places import cache_folder

_CUDA = (
    "device_id",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "cudnn_conv_algo_search",
    "cudnn_conv_use_max_workspace",
    "cudnn_conv1d_pad_to_nc1d",
    "do_copy_in_default_stream",
    "enable_cuda_graph",
    "enable_skip_layer_norm_strict_mode",
    "fuse_conv_bias",
    "prefer_nhwc",
    "sdpa_kernel",
    "tunable_op_enable",
    "tunable_op_max_tuning_duration_ms",
    "tunable_op_tuning_enable",
    "use_ep_level_unified_stream",
    "use_tf32",
)
_TENSORRT = (
    "device_id",
    "trt_auxiliary_streams",
    "trt_bf16_enable",
    "trt_build_heuristics_enable",
    "trt_builder_optimization_level",
    "trt_context_memory_sharing_enable",
    "trt_cuda_graph_enable",
    "trt_detailed_build_log",
    "trt_dla_core",
    "trt_dla_enable",
    "trt_dump_subgraphs",
    "trt_engine_cache_enable",
    "trt_engine_cache_path",
    "trt_engine_cache_prefix",
    "trt_engine_hw_compatible",
    "trt_force_sequential_engine_build",
    "trt_force_timing_cache",
    "trt_fp16_enable",
    "trt_int8_calibration_table_name",
    "trt_int8_enable",
    "trt_int8_use_native_calibration_table",
    "trt_layer_norm_fp32_fallback",
    "trt_max_partition_iterations",
    "trt_max_workspace_size",
    "trt_min_subgraph_size",
    "trt_op_types_to_exclude",
    "trt_profile_max_shapes",
    "trt_profile_min_shapes",
    "trt_profile_opt_shapes",
    "trt_sparsity_enable",
    "trt_tactic_sources",
    "trt_timing_cache_enable",
    "trt_timing_cache_path",
)
_RTX = (
    "device_id",
    "enable_cuda_graph",
    "nv_detailed_build_log",
    "nv_dump_subgraphs",
    "nv_max_shared_mem_size",
    "nv_max_workspace_size",
    "nv_multi_profile_enable",
    "nv_profile_max_shapes",
    "nv_profile_min_shapes",
    "nv_profile_opt_shapes",
    "nv_runtime_cache_path",
)
# Options that are true or false. The others of TensorRT's that end in "enable" are flags too.
_FLAGS = frozenset(
    {
        *(name for name in _TENSORRT if name.endswith("_enable")),
        *(
            "trt_detailed_build_log",
            "trt_dump_subgraphs",
            "trt_engine_hw_compatible",
            "trt_force_sequential_engine_build",
        ),
        *("trt_force_timing_cache", "trt_int8_use_native_calibration_table", "trt_layer_norm_fp32_fallback"),
        *("cudnn_conv_use_max_workspace", "cudnn_conv1d_pad_to_nc1d", "do_copy_in_default_stream", "enable_cuda_graph"),
        *("enable_skip_layer_norm_strict_mode", "fuse_conv_bias", "prefer_nhwc", "tunable_op_enable"),
        *("tunable_op_tuning_enable", "use_ep_level_unified_stream", "use_tf32"),
        *("nv_detailed_build_log", "nv_dump_subgraphs", "nv_multi_profile_enable"),
    }
)
# ONNX Runtime's own reader takes all six; that of its Python module takes no 1 and no 0 for TensorRT's.
_SPELLINGS = {"1": "True", "true": "True", "True": "True", "0": "False", "false": "False", "False": "False"}
# Flags that must stay false, with the reason and the remedy.
_WEAK = (
    "lets TensorRT choose the precision of every layer, also of those that the bundle keeps in FP32",
    "Leave it out: the bundle's graphs say their precision. `pixrt export --precision fp16` makes them FP16",
)
_REPLAYED = (
    "replays the first run: inputs that are not on the device at a fixed address are not read again",
    "Leave it out. The backends ort-cuda, tensorrt and tensorrt-rtx use CUDA graphs by themselves where it is safe",
)
_REFUSED: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"), _WEAK),
    **dict.fromkeys(("enable_cuda_graph", "trt_cuda_graph_enable"), _REPLAYED),
}
KNOWN: Mapping[str, tuple[str, ...]] = {
    "CPUExecutionProvider": (),
    "CUDAExecutionProvider": _CUDA,
    "TensorrtExecutionProvider": _TENSORRT,
    "NvTensorRTRTXExecutionProvider": _RTX,
}


def provider_settings(provider: str, given: Mapping[str, str], manifest: Manifest) -> dict[str, str]:
    """The options to open a provider with: pixrt's own for this bundle, and over them those given.

    Raises OptionError for a name that the provider does not have, a flag that is neither true nor false, and one that
    would make the pictures wrong.
    """
    known = KNOWN[provider]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise OptionError(
                f"pixrt knows no option {name!r} of {provider}{f'; there is {near[0]}' if near else ''}",
                remedy=f"It passes on {', '.join(known)}" if known else "Leave provider options out",
            )
    return _defaults(provider, manifest) | {name: _checked(name, value) for name, value in given.items()}


def _checked(name: str, value: str) -> str:
    """The value as every version of ONNX Runtime reads it."""
    if name not in _FLAGS:
        return value
    if value not in _SPELLINGS:
        raise OptionError(f"provider option {name} is {value!r}", remedy="It is a flag: give true or false")
    flag = _SPELLINGS[value]
    if flag == "True" and name in _REFUSED:
        reason, remedy = _REFUSED[name]
        raise OptionError(f"provider option {name} {reason}", remedy=remedy)
    return flag


def _defaults(provider: str, manifest: Manifest) -> dict[str, str]:
    cache = cache_folder() / manifest.source.sha256[:16] / manifest.precision
    if provider == "TensorrtExecutionProvider":
        # An engine takes minutes to build, so it is kept. Without the flags for FP16, BF16 and INT8 the network is
        # strongly typed: it has the precision of its graph, which keeps in FP32 what overflows in FP16.
        return {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(cache / "ort-tensorrt"),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(cache / "ort-tensorrt"),
        }
    if provider == "NvTensorRTRTXExecutionProvider":
        return {"nv_runtime_cache_path": str(cache / "ort-tensorrt-rtx")}
    if provider == "CUDAExecutionProvider":
        # The largest workspace lets cuDNN take its fastest convolutions; the arena grows by what is asked for.
        return {"cudnn_conv_use_max_workspace": "True", "arena_extend_strategy": "kSameAsRequested"}
    return {}
