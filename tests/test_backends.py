"""One contract for every backend, on a network of the built-in model."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixrt.backends.protocol import Array, Backend, Engine
from pixrt.backends.registry import LADDER, BackendOptions, backend_statuses, open_backend
from pixrt.errors import BackendError, OptionError
from pixrt.spec import Component
from pixrt.store import Bundle, open_bundle

BUNDLE = open_bundle("demo", verify=False)
COMPUTING = [s.name for s in backend_statuses(BUNDLE) if s.available and s.name != "null"]
ALL = [*COMPUTING, "null"]


def open_decoder(name: Any, threads: int | None = 1) -> Engine:
    return open_backend(name, BUNDLE, BackendOptions(threads=threads)).backend.open(BUNDLE, Component.VAE_DECODER)


def arrays(batch: int = 1, height: int = 3, width: int = 5) -> dict[str, Array]:
    latents = np.random.default_rng(0).standard_normal((batch, 4, height, width)).astype(np.float32)
    return {"latent_sample": latents, "sample": np.full((batch, 3, 4 * height, 4 * width), 7, np.float32)}


def test_the_cpu_is_here() -> None:
    assert "ort-cpu" in COMPUTING


@pytest.mark.parametrize("name", COMPUTING)
def test_a_bound_call_reads_and_writes_the_arrays_in_place(name: str) -> None:
    engine, given = open_decoder(name), arrays()
    run = engine.bind(given)
    run()
    first = given["sample"].copy()
    assert np.isfinite(first).all()
    assert not (first == 7).any()
    run()
    np.testing.assert_array_equal(given["sample"], first)
    given["latent_sample"][:] = 0
    run()
    assert not np.array_equal(given["sample"], first)


@pytest.mark.parametrize("name", COMPUTING)
def test_several_bindings_and_shapes_live_side_by_side(name: str) -> None:
    engine = open_decoder(name)
    small, large = arrays(1, 3, 5), arrays(2, 6, 4)
    run_small, run_large = engine.bind(small), engine.bind(large)
    run_small()
    first = small["sample"].copy()
    run_large()
    run_small()
    np.testing.assert_array_equal(small["sample"], first)
    assert np.isfinite(large["sample"]).all()


@pytest.mark.parametrize("name", COMPUTING)
def test_a_batch_item_equals_the_item_alone(name: str) -> None:
    engine, together = open_decoder(name), arrays(3)
    engine.bind(together)()
    for index in range(3):
        alone = {"latent_sample": together["latent_sample"][index : index + 1].copy(), "sample": arrays()["sample"]}
        engine.bind(alone)()
        # Another batch may take another kernel, which sums in another order.
        np.testing.assert_allclose(alone["sample"][0], together["sample"][index], atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("name", COMPUTING)
def test_against_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    folder = Path(__file__).parent / "data" / "demo_checkpoint" / "vae"
    vae = diffusers.AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
    given = arrays(2)
    open_decoder(name).bind(given)()
    with torch.no_grad():
        expected = vae.decode(torch.from_numpy(given["latent_sample"])).sample.numpy()
    np.testing.assert_allclose(given["sample"], expected, atol=1e-4 * np.abs(expected).max())


def test_the_null_backend_leaves_the_outputs() -> None:
    engine, given = open_decoder("null"), arrays()
    engine.bind(given)()
    assert (given["sample"] == 7).all()


WRONG: dict[str, Callable[[dict[str, Array]], object]] = {
    "missing": lambda a: a.pop("sample"),
    "unknown": lambda a: a.update(other=a["sample"]),
    "dtype": lambda a: a.update(latent_sample=a["latent_sample"].astype(np.float64)),
    "channels": lambda a: a.update(latent_sample=np.zeros((1, 5, 3, 5), np.float32)),
    "axes": lambda a: a.update(latent_sample=np.zeros((4, 3, 5), np.float32)),
    "batches differ": lambda a: a.update(latent_sample=np.zeros((2, 4, 3, 5), np.float32)),
    "not contiguous": lambda a: a.update(latent_sample=np.zeros((1, 4, 5, 3), np.float32).transpose(0, 1, 3, 2)),
}


@pytest.mark.parametrize("change", WRONG)
@pytest.mark.parametrize("name", ALL)
def test_wrong_arrays_are_not_bound(name: str, change: str) -> None:
    given = arrays()
    WRONG[change](given)
    with pytest.raises(BackendError, match="cannot bind"):
        open_decoder(name).bind(given)


@pytest.mark.parametrize("name", COMPUTING)
@pytest.mark.parametrize("content", [b"", b"not an ONNX file", bytes(1000)])
def test_a_file_that_is_no_network(name: str, content: bytes, tmp_path: Path) -> None:
    bundle = Bundle(tmp_path, BUNDLE.manifest)
    bundle.file(Component.VAE_DECODER).write_bytes(content)
    backend: Backend = open_backend(name, BUNDLE).backend  # type: ignore[arg-type]
    with pytest.raises(BackendError) as caught:
        backend.open(bundle, Component.VAE_DECODER)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", COMPUTING)
def test_an_output_of_another_size_is_an_error_not_a_crash(name: str) -> None:
    given = arrays()
    given["sample"] = np.zeros((1, 3, 8, 8), np.float32)
    run = open_decoder(name).bind(given)
    with pytest.raises(BackendError):
        run()


@pytest.mark.parametrize("threads", [0, -1, 10_000, 1.5, "2"])
def test_threads_out_of_range(threads: Any) -> None:
    with pytest.raises(OptionError, match="threads"):
        open_backend("ort-cpu", BUNDLE, BackendOptions(threads=threads))


@pytest.mark.parametrize("name", ["", "cuda", "CPU", None])
def test_an_unknown_backend(name: Any) -> None:
    with pytest.raises(OptionError, match="backend is"):
        open_backend(name, BUNDLE)


def test_what_is_not_here_says_why() -> None:
    refused = [status for status in backend_statuses(BUNDLE) if not status.available]
    assert {"tensorrt", "ort-cuda"} & {status.name for status in refused}
    for status in refused:
        with pytest.raises(BackendError) as caught:
            open_backend(status.name, BUNDLE)  # type: ignore[arg-type]
        assert status.reason in str(caught.value)
        assert re.search(r"pip install|pixrt build|NVIDIA driver", caught.value.remedy)


def test_auto_tells_what_it_passed_over() -> None:
    opened = open_backend("auto", BUNDLE)
    names = [status.name for status in opened.passed_over]
    assert [*names, opened.backend.name] == list(LADDER[: len(names) + 1])
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
    from pixrt.backends import onnx_runtime

    if "CUDAExecutionProvider" in onnx_runtime.PROVIDERS:
        pytest.skip("CUDA is really there")
    monkeypatch.setattr(onnx_runtime, "PROVIDERS", ("CUDAExecutionProvider", "CPUExecutionProvider"))
    opened = open_backend("auto", BUNDLE)
    assert opened.backend.name == "ort-cpu"
    reasons = {status.name: status.reason for status in opened.passed_over}
    assert "cannot load CUDAExecutionProvider" in reasons["ort-cuda"]
    with pytest.raises(BackendError, match="cannot load CUDAExecutionProvider"):
        open_backend("ort-cuda", BUNDLE)
