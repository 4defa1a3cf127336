"""What pixrt asks of ONNX Runtime's GPU providers, in order, and how it learns that one cannot run here."""

import ctypes
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixrt.backends import driver
from pixrt.backends.ort import probe
from pixrt.backends.ort.info import CUDA_OF_EXTRA
from pixrt.backends.registry import open_backend
from pixrt.bundles.store import open_bundle
from pixrt.errors import BackendError
from pixrt.options.session import SessionOptions
from recorded_providers import CPU, CUDA, RTX, TENSORRT, Recorder

ROOT = Path(__file__).parent.parent.parent
BUNDLE = open_bundle("shapes", verify=False)
CACHE = Path("/cache") / BUNDLE.manifest.source.sha256[:16] / BUNDLE.manifest.precision
TENSORRT_CACHE = {"trt_engine_cache_path": f"{CACHE}/ort-tensorrt", "trt_timing_cache_path": f"{CACHE}/ort-tensorrt"}
# Backend: provider, options of every session, those of the probe where they differ.
ASKED: dict[str, tuple[str, dict[str, str], dict[str, str] | None]] = {
    "ort-cuda": (CUDA, {"cudnn_conv_use_max_workspace": "True", "arena_extend_strategy": "kSameAsRequested"}, None),
    "ort-tensorrt": (
        TENSORRT,
        {"trt_engine_cache_enable": "True", "trt_timing_cache_enable": "True", **TENSORRT_CACHE},
        {"trt_engine_cache_enable": "False", "trt_timing_cache_enable": "False", **TENSORRT_CACHE},
    ),
    "ort-tensorrt-rtx": (RTX, {"nv_runtime_cache_path": f"{CACHE}/ort-tensorrt-rtx"}, {}),
}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("/cache"))
    yield
    probe.preload.cache_clear()


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_of_a_provider(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Preloads come first, then the probe, which nothing but the provider may compute, then every component alike."""
    (tmp_path / "libnvinfer.so.10").touch()
    provider, settings, tried = ASKED[name]
    recorder = Recorder(monkeypatch, tensorrt=tmp_path)
    backend = open_backend(name, BUNDLE).backend
    loaded = [("preload_dlls",), *([("library", "libnvinfer.so.10")] if provider == TENSORRT else [])]
    probed = ("probe", ((provider, settings if tried is None else tried),), "only", "fails")
    assert recorder.events == [*loaded, probed]
    for component, spec in BUNDLE.manifest.components.items():
        recorder.events.clear()
        backend.open(BUNDLE, component).close()  # type: ignore[arg-type]
        assert recorder.events == [(spec.file, ((provider, settings), CPU), "or CPU", "fails")]
    # Once in a process is enough, and what it prints is nobody's.
    open_backend(name, BUNDLE)
    assert ("preload_dlls",) not in recorder.events
    assert capsys.readouterr().out == ""


def test_the_cpu_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch, driver=None)
    open_backend("ort-cpu", BUNDLE)
    assert recorder.events == []


def test_profiles_are_not_the_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    given = {"trt_profile_min_shapes": "sample:1x8x8x8", "device_id": "1"}
    open_backend("ort-tensorrt", BUNDLE, SessionOptions(provider_options=given))
    ((_, asked),) = recorder.events[-1][1]
    assert asked["device_id"] == "1"
    assert not [name for name in asked if "profile" in name]


def test_the_probe_is_a_convolution() -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(probe._CONVOLUTION)
    onnx.checker.check_model(graph, full_check=True)
    assert [node.op_type for node in graph.graph.node] == ["Conv"]


def no_cudnn(feed: dict[str, Any]) -> Any:
    raise RuntimeError("CUDNN failure 1001: libcudnn.so.9: cannot open shared object file\nand more")


@pytest.mark.parametrize("name", ASKED)
def test_without_cudnn_auto_goes_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session opens without it; only its first convolution fails."""
    Recorder(monkeypatch, run=no_cudnn)
    opened = open_backend("auto", BUNDLE)
    assert opened.backend.name == "ort-cpu"
    reasons = {status.name: status.reason for status in opened.passed_over}
    assert reasons[name].endswith(f"cannot compute on {ASKED[name][0]}: CUDNN failure 1001: libcudnn.so.9: cannot "
                                  "open shared object file")  # fmt: skip
    with pytest.raises(BackendError, match=r"libcudnn\.so\.9"):
        open_backend(name, BUNDLE)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Recorder(monkeypatch, run=no_cudnn, loadable=False)
    with pytest.raises(BackendError, match=r"cannot load CUDAExecutionProvider: libcublasLt\.so\.13"):
        open_backend("ort-cuda", BUNDLE)


def test_a_provider_that_computes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    Recorder(monkeypatch, run=lambda feed: [np.zeros((1, 1, 1, 1), np.float32)])
    with pytest.raises(BackendError, match=r"computes wrong on CUDAExecutionProvider: a convolution gives 0\.0"):
        open_backend("ort-cuda", BUNDLE)


@pytest.mark.parametrize(
    ("found", "built_for", "reason"),
    [
        (None, "13.0", "CUDA 13 needs the NVIDIA driver 580 or newer, and there is none"),
        ((12, 4), "13.0", "CUDA 13 needs the NVIDIA driver 580 or newer, and the one here runs CUDA 12.4 at most"),
        ((11, 8), "12.8", "CUDA 12 needs the NVIDIA driver 525 or newer, and the one here runs CUDA 11.8 at most"),
    ],
)
def test_a_driver_that_is_too_old(
    found: tuple[int, int] | None, built_for: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch, driver=found, built_for=built_for)
    with pytest.raises(BackendError, match=reason) as caught:
        open_backend("ort-cuda", BUNDLE)
    assert recorder.events == []
    assert "pixrt[cuda]" in caught.value.remedy
    assert "cuda12" in caught.value.remedy


@pytest.mark.parametrize(("found", "built_for"), [((12, 0), "12.8"), ((13, 1), "12.8"), ((13, 0), "13.0"), (None, "")])
def test_a_driver_that_is_new_enough(
    found: tuple[int, int] | None, built_for: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Recorder(monkeypatch, driver=found, built_for=built_for)
    assert open_backend("ort-cuda", BUNDLE).backend.name == "ort-cuda"


class Library:
    """NVIDIA's, as far as it is asked here."""

    def __init__(self, version: int, code: int = 0) -> None:
        self.version, self.code = version, code

    def cuDriverGetVersion(self, pointer: Any) -> int:  # noqa: N802
        pointer._obj.value = self.version
        return self.code


def test_the_drivers_version(monkeypatch: pytest.MonkeyPatch) -> None:
    for library, found in ((Library(12040), (12, 4)), (Library(13000), (13, 0)), (Library(12040, 3), None)):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        assert driver.driver_cuda() == found
    assert driver.describe_driver() == "none (libcuda.so.1)"
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert driver.driver_cuda() is None


def test_tensorrts_libraries_are_those_of_version_10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they need each other; pip's package may be TensorRT 11's."""
    package = tmp_path / "tensorrt_libs"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    names = ("libnvonnxparser.so.10", "libnvinfer_plugin.so.10", "libnvinfer.so.10", "libnvinfer.so.11")
    for name in (*names, "libnvinfer_builder_resource.so.10.14.1", "libnvonnxparser.so.11"):
        (package / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = [path.name for path in probe.tensorrt_libraries()]
    assert found[0] == "libnvinfer.so.10"
    assert found[-1] == "libnvonnxparser.so.10"
    assert sorted(found[1:-1]) == ["libnvinfer_builder_resource.so.10.14.1", "libnvinfer_plugin.so.10"]


def test_the_extras_have_their_cuda() -> None:
    """onnxruntime-gpu is built for CUDA 12 up to 1.26; 1.27's own extras cannot be installed."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["cuda"] == ["onnxruntime-gpu[cuda,cudnn]>=1.28"]
    assert extras["cuda12"] == ["onnxruntime-gpu[cuda,cudnn]>=1.24,<1.27"]
    assert extras["ort-tensorrt"] == [*extras["cuda"], "tensorrt-cu13-libs>=10.14,<11"]
    assert CUDA_OF_EXTRA == {"cuda": 13, "cuda12": 12}
    assert set(CUDA_OF_EXTRA.values()) == driver.OLDEST_DRIVER.keys()
    elsewhere = [
        text for name, given in extras.items() if name not in ("cuda", "cuda12", "ort-tensorrt") for text in given
    ]
    assert not [text for text in elsewhere if re.search(r"onnxruntime-gpu|pixrt\[.*(cuda|ort-tensorrt)", text)]
