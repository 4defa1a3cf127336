"""What every backend promises of a network, on `shapes`'s decoder. Subclasses give the fixture `engine`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pixrt.backends.protocol import Array, Engine
from pixrt.errors import BackendError


def arrays(batch: int = 1, height: int = 3, width: int = 5) -> dict[str, Array]:
    latents = np.random.default_rng(0).standard_normal((batch, 4, height, width)).astype(np.float32)
    return {"latent_sample": latents, "sample": np.full((batch, 3, 4 * height, 4 * width), 7, np.float32)}


WRONG: dict[str, Callable[[dict[str, Array]], object]] = {
    "missing": lambda a: a.pop("sample"),
    "unknown": lambda a: a.update(other=a["sample"]),
    "dtype": lambda a: a.update(latent_sample=a["latent_sample"].astype(np.float64)),
    "channels": lambda a: a.update(latent_sample=np.zeros((1, 5, 3, 5), np.float32)),
    "axes": lambda a: a.update(latent_sample=np.zeros((4, 3, 5), np.float32)),
    "batches differ": lambda a: a.update(latent_sample=np.zeros((2, 4, 3, 5), np.float32)),
    "not contiguous": lambda a: a.update(latent_sample=np.zeros((1, 4, 5, 3), np.float32).transpose(0, 1, 3, 2)),
}


class Contract:
    def test_a_bound_call_reads_and_writes_the_arrays_in_place(self, engine: Engine) -> None:
        given = arrays()
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

    def test_several_bindings_and_shapes_live_side_by_side(self, engine: Engine) -> None:
        small, large = arrays(1, 3, 5), arrays(2, 6, 4)
        run_small, run_large = engine.bind(small), engine.bind(large)
        run_small()
        first = small["sample"].copy()
        run_large()
        run_small()
        np.testing.assert_array_equal(small["sample"], first)
        assert np.isfinite(large["sample"]).all()

    def test_a_batch_item_equals_the_item_alone(self, engine: Engine) -> None:
        together = arrays(3)
        engine.bind(together)()
        for index in range(3):
            alone = {"latent_sample": together["latent_sample"][index : index + 1].copy(), "sample": arrays()["sample"]}
            engine.bind(alone)()
            # Another batch may take another kernel, which sums in another order.
            np.testing.assert_allclose(alone["sample"][0], together["sample"][index], atol=1e-5)

    @pytest.mark.torch
    def test_against_pytorch(self, engine: Engine) -> None:
        torch = pytest.importorskip("torch")
        diffusers = pytest.importorskip("diffusers")
        folder = Path(__file__).parent.parent / "data" / "shapes_checkpoint" / "vae"
        vae = diffusers.AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
        given = arrays(2)
        engine.bind(given)()
        with torch.no_grad():
            expected = vae.decode(torch.from_numpy(given["latent_sample"])).sample.numpy()
        np.testing.assert_allclose(given["sample"], expected, atol=1e-4 * np.abs(expected).max())

    @pytest.mark.parametrize("change", WRONG)
    def test_wrong_arrays_are_not_bound(self, engine: Engine, change: str) -> None:
        given = arrays()
        WRONG[change](given)
        with pytest.raises(BackendError, match="cannot bind"):
            engine.bind(given)

    def test_an_output_of_another_size_is_an_error_not_a_crash(self, engine: Engine) -> None:
        given = arrays()
        given["sample"] = np.zeros((1, 3, 8, 8), np.float32)
        with pytest.raises(BackendError):
            engine.bind(given)()
