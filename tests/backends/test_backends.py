"""One contract for every backend, on a network of the model `shapes`."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from contract import WRONG, Contract, arrays
from pixrt.backends.ort.providers import KNOWN
from pixrt.backends.protocol import Backend, Engine
from pixrt.backends.registry import LADDER, backend_statuses, open_backend
from pixrt.bundles.manifest import Component
from pixrt.bundles.store import Bundle, open_bundle
from pixrt.errors import BackendError, BundleError, OptionError
from pixrt.options.session import SessionOptions

BUNDLE = open_bundle("shapes", verify=False)
COMPUTING = [s.name for s in backend_statuses(BUNDLE) if s.available and s.name != "null"]


def open_decoder(name: Any, threads: int | None = 1) -> Engine:
    return open_backend(name, BUNDLE, SessionOptions(threads=threads)).backend.open(BUNDLE, Component.VAE_DECODER)


def test_the_cpu_is_here() -> None:
    installed = {"openvino"} if find_spec("openvino") else set()
    assert {"ort-cpu", *installed} <= set(COMPUTING)


class TestContract(Contract):
    @pytest.fixture(params=COMPUTING)
    def engine(self, request: pytest.FixtureRequest) -> Engine:
        return open_decoder(request.param)


def test_the_null_backend_leaves_the_outputs() -> None:
    engine, given = open_decoder("null"), arrays()
    engine.bind(given)()
    assert (given["sample"] == 7).all()


def test_the_null_backends_noise_is_in_its_arrays_of_floats_only() -> None:
    backend = open_backend("null", BUNDLE, SessionOptions(provider_options={"noise": "0.25"})).backend
    engine = backend.open(BUNDLE, Component.TEXT_ENCODER)
    numbers, ids = engine.allocate((20, 30), "float16"), engine.allocate((20, 30), "int64")
    assert 0.2 < abs(numbers).max() <= 0.25
    assert numbers.std() > 0.01
    assert not ids.any()


@pytest.mark.parametrize("change", WRONG)
def test_wrong_arrays_are_not_bound_to_nothing_either(change: str) -> None:
    given = arrays()
    WRONG[change](given)
    with pytest.raises(BackendError, match="cannot bind"):
        open_decoder("null").bind(given)


@pytest.mark.parametrize("name", COMPUTING)
@pytest.mark.parametrize("content", [b"", b"not an ONNX file", bytes(1000)])
def test_a_file_that_is_no_network(name: str, content: bytes, tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, BUNDLE.manifest)
    bundle.file(Component.VAE_DECODER).write_bytes(content)
    backend: Backend = open_backend(name, BUNDLE).backend
    with pytest.raises((BackendError, BundleError)) as caught:
        backend.open(bundle, Component.VAE_DECODER)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threads", [0, -1, 10_000, 1.5, "2"])
def test_threads_out_of_range(threads: Any) -> None:
    with pytest.raises(OptionError, match="threads"):
        open_backend("ort-cpu", BUNDLE, SessionOptions(threads=threads))


@pytest.mark.parametrize("name", ["", "cuda", "CPU", None])
def test_an_unknown_backend(name: Any) -> None:
    with pytest.raises(OptionError, match="backend is"):
        open_backend(name, BUNDLE)


def test_what_is_not_here_says_why() -> None:
    refused = [status for status in backend_statuses(BUNDLE) if not status.available]
    assert {"tensorrt", "ort-cuda"} & {status.name for status in refused}
    for status in refused:
        with pytest.raises(BackendError) as caught:
            open_backend(status.name, BUNDLE)
        assert status.reason in str(caught.value)
        assert re.search(r"pip install|pixrt build|NVIDIA driver", caught.value.remedy)


def test_auto_tells_what_it_passed_over() -> None:
    opened = open_backend("auto", BUNDLE)
    names = [status.name for status in opened.passed_over]
    assert [*names, opened.backend.name] == [info.name for info in LADDER[: len(names) + 1]]
    assert all(status.reason for status in opened.passed_over)


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert [status.name for status in backend_statuses(BUNDLE) if status.available] == ["null"]
    with pytest.raises(BackendError, match=r"onnxruntime is not installed.*pip install 'pixrt\[cpu\]'"):
        open_backend("auto", BUNDLE)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_is_listed_and_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu lists CUDA on every machine; where it cannot run there, "auto" goes on to the CPU."""
    from pixrt.backends.ort import probe as onnx_runtime

    if "CUDAExecutionProvider" in onnx_runtime.PROVIDERS:
        pytest.skip("CUDA is really there")
    monkeypatch.setattr(onnx_runtime, "PROVIDERS", ("CUDAExecutionProvider", "CPUExecutionProvider"))
    opened = open_backend("auto", BUNDLE)
    assert opened.backend.name == "ort-cpu"
    reasons = {status.name: status.reason for status in opened.passed_over}
    assert "cannot load CUDAExecutionProvider" in reasons["ort-cuda"]
    with pytest.raises(BackendError, match="cannot load CUDAExecutionProvider"):
        open_backend("ort-cuda", BUNDLE)


@pytest.mark.parametrize("provider", KNOWN)
def test_every_known_provider_option_is_in_the_providers_library(provider: str) -> None:
    """In the names that ONNX Runtime's library holds, where the installed one has the provider."""
    from pixrt.backends.ort.probe import provider_library

    if not KNOWN[provider]:
        return
    library = provider_library(provider)
    if not library.exists():
        pytest.skip(f"the onnxruntime that is installed has no {provider}")
    text = library.read_bytes()
    assert [name for name in KNOWN[provider] if name.encode() not in text] == []
