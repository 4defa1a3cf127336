"""`--mark`, `--c2pa-cert`, `--c2pa-key` and `--watermark` of the commands that write pictures, and their reader."""

import json
from pathlib import Path
from typing import Any

import pytest

from certificates import SIGNER, Chain, make_chain
from pixrt.pictures.provenance import SourceType
from pixrt.pictures.watermark import ENOUGH
from shapes import Outcome, Run

BLUE = "make the background blue"


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    (tmp_path / "keys").mkdir()
    return make_chain(tmp_path / "keys")


def signing(chain: Chain) -> list[object]:
    return ["--c2pa-cert", chain.cert, "--c2pa-key", chain.key]


def facts(run: Run, picture: str, *words: str) -> dict[str, Any]:
    outcome: Outcome = run("inspect", picture, "--json", *words)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_results_say_by_default_that_a_model_made_them(run: Run) -> None:
    assert run("edit", "scene.png", BLUE, "-o", "edited.webp", "--steps", 1).code == 0
    assert run("generate", "a red circle", "-o", "made.jpg", "--steps", 1).code == 0
    assert facts(run, "edited.webp")["source_type"] == SourceType.EDITED
    assert facts(run, "made.jpg")["source_type"] == SourceType.GENERATED
    assert facts(run, "edited.webp")["signature"] is None
    assert "made as (IPTC): edited" in run("inspect", "edited.webp").out
    assert run("edit", "scene.png", BLUE, "-o", "plain.png", "--steps", 1, "--no-mark").code == 0
    assert facts(run, "plain.png")["source_type"] is None


def test_a_signed_edit(run: Run, chain: Chain) -> None:
    outcome = run("edit", "scene.png", BLUE, "-o", "out.png", "--steps", 1, *signing(chain))
    assert outcome.code == 0, outcome.err
    found = facts(run, "out.png")
    assert found["signature"] == {"state": "Valid", "signer": SIGNER, "source_type": SourceType.EDITED}
    assert found["parameters"]["steps"] == 1
    said = run("inspect", "out.png").out
    assert f"unchanged since, by a signer whose issuer is not known here, by {SIGNER}" in " ".join(said.split())


def test_signed_galleries_and_sweeps(run: Run, chain: Chain) -> None:
    assert run("batch", "scene.png", BLUE, "-o", "all", "--steps", 1, *signing(chain)).code == 0
    assert facts(run, "all/scene.png")["signature"]["signer"] == SIGNER
    assert run("sweep", "scene.png", BLUE, "-o", "swept", "--steps", "1,2", *signing(chain)).code == 0
    for picture in Path("swept").iterdir():
        assert facts(run, str(picture))["signature"]["signer"] == SIGNER, picture
        assert facts(run, str(picture))["source_type"] == SourceType.EDITED


def test_the_watermark_and_its_price(run: Run) -> None:
    words = ["edit", "scene.png", BLUE, "--steps", 1, "--seed", 1]
    marked = run(*words, "-o", "marked.png", "--watermark")
    assert "outside a mask they are not the input's to the byte" in marked.err
    assert run(*words, "-o", "quiet.png", "--watermark", "--quiet").err == ""
    assert run(*words, "-o", "plain.png").code == 0
    assert facts(run, "marked.png", "--watermark")["watermark_bits"] >= ENOUGH
    assert facts(run, "plain.png", "--watermark")["watermark_bits"] < ENOUGH
    assert facts(run, "marked.png")["watermark_bits"] is None
    assert "watermark: yes, 48 of 48 bits" in run("inspect", "marked.png", "--watermark").out
    assert "watermark: no, " in run("inspect", "plain.png", "--watermark").out
    assert Path("marked.png").read_bytes() == Path("quiet.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--c2pa-cert", "keys/cert.pem"], "c2pa_cert is given without c2pa_key. Signing needs both"),
        (["--c2pa-cert", "keys/cert.pem", "--c2pa-key", "keys/none.pem"], "keys/none.pem cannot be read"),
        (["--c2pa-cert", "keys/key.pem", "--c2pa-key", "keys/key.pem"], "keys/key.pem holds no certificate"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_wrong_keys_are_told_before_any_work(
    run: Run, chain: Chain, words: list[str], said: str, dry: list[str]
) -> None:
    for command in (["edit", "scene.png", BLUE, "-o", "o.png"], ["batch", "scene.png", BLUE, "-o", "o"]):
        outcome = run(*command, *words, *dry)
        assert outcome.code == 2
        assert said in " ".join(outcome.err.split())
    assert not Path("o.png").exists()
    assert not Path("o").exists()
