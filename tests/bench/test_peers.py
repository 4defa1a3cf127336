"""The sides of `benchmarks/peers.py` make the same picture, and who cannot says why."""

from pathlib import Path

import numpy as np
import pytest

import peers
from peer_sides import NotRun, Work, open_diffusers, open_optimum, open_pixrt, open_stable_diffusion_cpp
from pixrt_export.evaluation.accuracy import psnr_db

CHECKPOINT = Path(__file__).parent.parent / "data" / "shapes_checkpoint"


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(CHECKPOINT, tmp_path, 64, 2, "euler_ancestral", 2.0, 1.2, threads=1)


@pytest.mark.torch
def test_pixrt_and_diffusers_make_the_same_picture(work: Work) -> None:
    """With a solver that draws noise at every step; and their networks are run on the same inputs."""
    picture, text, seed = peers.Source(work).edit(1)
    theirs = open_diffusers(work).edit(picture, text, seed)
    ours = open_pixrt(work, bundle="shapes", backend="ort-cpu", precision="fp32").edit(picture, text, seed)
    assert psnr_db(ours.picture, theirs.picture) > 50
    assert psnr_db(ours.picture, np.asarray(picture)) < 40
    assert len(ours.steps_s) == len(theirs.steps_s) == 1
    assert ours.network_rows == 6


def test_the_unet_by_itself(work: Work) -> None:
    side = open_pixrt(work, bundle="shapes", backend="ort-cpu", precision="fp32")
    assert side.network is not None
    side.network()
    assert peers.unet_flops("shapes", work) > 10**9


def test_who_cannot_says_why(work: Work) -> None:
    with pytest.raises(NotRun, match=r"is not installed|sizes of networks"):
        open_stable_diffusion_cpp(work)
    with pytest.raises(NotRun, match="none for InstructPix2Pix"):
        open_optimum(work)
    with pytest.raises(NotRun, match="a CPU precision is given for the backend null"):
        open_pixrt(work, bundle="shapes", backend="null", precision="bf16")
