"""Options of ONNX Runtime's providers: what pixrt sets, what it passes on, and what would make pictures wrong."""

import dataclasses

import pytest

from pixrt.backends.ort.providers import KNOWN, provider_settings
from pixrt.bundles.store import open_bundle
from pixrt.errors import OptionError

MANIFEST = open_bundle("shapes", verify=False).manifest
CUDA, TENSORRT, RTX = "CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"
TRUE, FALSE = ("1", "true", "True"), ("0", "false", "False")
WEAK = ("trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable")
GRAPHS = ((CUDA, "enable_cuda_graph"), (TENSORRT, "trt_cuda_graph_enable"), (RTX, "enable_cuda_graph"))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "fp16-weights"])
def test_no_network_is_weakly_typed(precision: str) -> None:
    """Any of these flags makes ONNX Runtime create a weakly typed network: layers kept in FP32 would run in FP16."""
    manifest = dataclasses.replace(MANIFEST, precision=precision)  # type: ignore[arg-type]
    settings = provider_settings(TENSORRT, {}, manifest)
    assert not {name for name in WEAK if settings.get(name, "False") != "False"}
    for name in WEAK:
        assert provider_settings(TENSORRT, {name: "0"}, manifest)[name] == "False"
        for value in TRUE:
            with pytest.raises(OptionError, match=f"{name} lets TensorRT choose.*FP32") as caught:
                provider_settings(TENSORRT, {name: value}, manifest)
            assert "--precision fp16" in caught.value.remedy


@pytest.mark.parametrize(("provider", "name"), GRAPHS)
def test_no_graph_replays_stale_inputs(provider: str, name: str) -> None:
    for value in TRUE:
        with pytest.raises(OptionError, match=f"{name} replays the first run") as caught:
            provider_settings(provider, {name: value}, MANIFEST)
        assert "Leave it out" in caught.value.remedy
    for value in FALSE:
        assert provider_settings(provider, {name: value}, MANIFEST)[name] == "False"


def test_flags_are_written_as_every_reader_takes_them() -> None:
    """ONNX Runtime's Python module refuses 1 and 0 for TensorRT's flags, and only that module reads them."""
    settings = provider_settings(TENSORRT, {"trt_sparsity_enable": "1", "trt_force_timing_cache": "0"}, MANIFEST)
    assert settings["trt_sparsity_enable"] == "True"
    assert settings["trt_force_timing_cache"] == "False"
    flags = {name: value for name, value in settings.items() if value.lower() in ("1", "0", "true", "false")}
    assert set(flags.values()) == {"True", "False"}
    assert {"trt_engine_cache_enable", "trt_timing_cache_enable"} < flags.keys()
    # What is no flag stays as it is given.
    numbers = {"device_id": "1", "trt_auxiliary_streams": "0", "trt_dla_core": "1"}
    assert provider_settings(TENSORRT, numbers, MANIFEST).items() >= numbers.items()
    assert provider_settings(CUDA, {"sdpa_kernel": "1"}, MANIFEST)["sdpa_kernel"] == "1"


@pytest.mark.parametrize("value", ["", "yes", "TRUE", "2", " 1", "on"])
@pytest.mark.parametrize("name", ["trt_cuda_graph_enable", "trt_sparsity_enable"])
def test_a_flag_is_true_or_false(name: str, value: str) -> None:
    with pytest.raises(OptionError, match=f"provider option {name} is '{value}'") as caught:
        provider_settings(TENSORRT, {name: value}, MANIFEST)
    assert "true or false" in caught.value.remedy


@pytest.mark.parametrize("provider", KNOWN)
def test_an_unknown_option(provider: str) -> None:
    with pytest.raises(OptionError, match=f"pixrt knows no option 'use_tf_32' of {provider}"):
        provider_settings(provider, {"use_tf_32": "1"}, MANIFEST)
