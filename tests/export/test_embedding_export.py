"""Textual-inversion embeddings in a bundle and given to one, against diffusers' `load_textual_inversion`."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from exported import Exports
from pixrt import Editor
from pixrt.bundles.store import open_bundle
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.errors import EmbeddingError
from pixrt.lora.embeddings import embedding_of, give, load_embeddings
from pixrt_export import ExportOptions, export_checkpoint
from pixrt_export.embeddings import read_embeddings
from pixrt_export.opening import open_checkpoint
from pixrt_export.tracing import open_session

pytestmark = pytest.mark.torch

TEXTS = ("make it <cat>", "<cat><style>, a photo of style", "<style> " * 30, "STYLE <CAT> in winter")
WIDTH = 128  # of `shapes`'s text encoder


def _vectors(seed: int, count: int, width: int = WIDTH) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.3


def write_files(folder: Path) -> dict[str, Path]:
    """One of every form, with what is written for it."""
    files = {name: folder / name for name in ("one.safetensors", "one.bin", "style.safetensors", "style.pt")}
    save_file({"<cat>": _vectors(0, 1)[0].contiguous()}, files["one.safetensors"])
    torch.save({"<cat>": _vectors(0, 1)[0].clone()}, files["one.bin"])
    save_file({"emb_params": _vectors(1, 5)}, files["style.safetensors"])
    a1111 = {"string_to_token": {"*": 265}, "string_to_param": {"*": _vectors(1, 5)}, "name": "<style>", "step": 499}
    torch.save(a1111, files["style.pt"])
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_files(tmp_path_factory.mktemp("embeddings"))


@pytest.fixture(scope="module")
def theirs(exports: Exports, files: dict[str, Path]) -> Any:
    """What diffusers' pipeline encodes a text to with both embeddings."""
    import diffusers

    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(
        exports.checkpoint("shapes"), safety_checker=None
    )
    pipeline.load_textual_inversion(files["one.safetensors"])
    pipeline.load_textual_inversion(files["style.pt"])

    def encode(text: str) -> np.ndarray[Any, Any]:
        said = pipeline.maybe_convert_prompt(text, pipeline.tokenizer)
        ids = pipeline.tokenizer(said, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return pipeline.text_encoder(ids.input_ids)[0].numpy()

    return encode


def embed_all(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        files = write_files(Path(made))
        options = ExportOptions(
            checkpoint=str(Exports().checkpoint("shapes")),
            output=folder,
            embeddings=(files["one.bin"], files["style.pt"]),
            allow_pickle=True,
        )
        export_checkpoint(options, on_progress=lambda stage: None)


@pytest.fixture(scope="module")
def embedded(exports: Exports) -> Path:
    """The model `shapes` with both in it, out of pickles."""
    return exports.other("embedded", embed_all)


@pytest.fixture(scope="module")
def plain(exports: Exports) -> Path:
    return exports.bundle("shapes", "fp32")


def test_given_embeddings_are_diffusers(plain: Path, files: dict[str, Path], theirs: Any) -> None:
    bundle = open_bundle(plain)
    given = give([files["one.safetensors"], (files["style.safetensors"], "<style>")], bundle.manifest)
    tokenizer = Tokenizer(plain, bundle.manifest.tokenizers[0], given.tokens)
    session = open_session(plain / "text_encoder.onnx")
    for text in TEXTS:
        feeds = {"input_ids": np.array([tokenizer.encode(text).ids]), "embeddings": given.rows}
        (ours,) = session.run(None, feeds)
        expected = theirs(text)
        assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max(), text


def test_exported_embeddings_are_diffusers(embedded: Path, theirs: Any) -> None:
    manifest = open_bundle(embedded).manifest
    assert [(each.name, each.token) for each in manifest.source.embeddings] == [
        ("one.bin", "<cat>"),
        ("style.pt", "<style>"),
    ]
    tokenizer = Tokenizer(embedded, manifest.tokenizers[0])
    session = open_session(embedded / "text_encoder.onnx")
    for text in TEXTS:
        feeds = {
            "input_ids": np.array([tokenizer.encode(text).ids]),
            "embeddings": np.zeros((128, WIDTH), np.float32),
        }
        (ours,) = session.run(None, feeds)
        expected = theirs(text)
        assert np.abs(ours - expected).max() < 1e-4 * np.abs(expected).max(), text


def test_an_edit_is_the_same_either_way(embedded: Path, plain: Path, files: dict[str, Path]) -> None:
    picture = Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 60).convert("RGB")
    how: dict[str, Any] = {"steps": 2, "seed": 1, "guidance_scale": 3.0}
    text = "<style> <cat> red"
    given = [files["one.safetensors"], (files["style.safetensors"], "<style>")]
    with Editor(embedded) as first, Editor(plain, embeddings=given) as second, Editor(plain) as third:
        results = [editor.edit(picture, text, **how) for editor in (first, second, third)]
    merged, told, without = (np.asarray(each.image) for each in results)
    assert np.array_equal(merged, told)
    assert not np.array_equal(told, without)
    said = results[1].parameters["embeddings"]
    assert [(each["name"], each["token"]) for each in said] == [
        ("one.safetensors", "<cat>"),
        ("style.safetensors", "<style>"),
    ]


REFUSED: dict[str, tuple[Any, str]] = {
    "another width": ({"<a>": torch.zeros(2, 768)}, "are 768 wide, those of it are 128"),
    "two tensors": ({"<a>": torch.zeros(128), "<b>": torch.zeros(128)}, "holds 2 tensors"),
    "Stable Diffusion XL": ({"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(1, 1280)}, "Stable Diffusion XL"),
    "not finite": ({"<a>": torch.full((128,), float("nan"))}, "not finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    tensors, words = REFUSED[name]
    save_file(tensors, tmp_path / "it.safetensors")
    with pytest.raises(EmbeddingError, match=words):
        load_embeddings([tmp_path / "it.safetensors"], WIDTH, "it")


def test_pickles_only_at_export_and_only_when_asked_for(
    exports: Exports, files: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(str(exports.checkpoint("shapes")))
    with pytest.raises(EmbeddingError, match=r"is a pickle.*--allow-pickle"):
        read_embeddings([files["style.pt"]], checkpoint, allow_pickle=False)
    (tmp_path / "evil.pt").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(EmbeddingError, match="weights_only"):
        read_embeddings([tmp_path / "evil.pt"], checkpoint, allow_pickle=True)
    assert not (tmp_path / "owned").exists()


def test_tokens(files: dict[str, Path], tmp_path: Path) -> None:
    (found,) = load_embeddings([files["style.safetensors"]], WIDTH, "it")
    assert found.spec.token == "style"
    assert len(found.token(-1, -1).ids) == 5
    with pytest.raises(EmbeddingError, match="two embeddings are written as '<cat>'"):
        load_embeddings([files["one.safetensors"], (files["style.safetensors"], "<cat>")], WIDTH, "it")
    with pytest.raises(EmbeddingError, match="is to be written as"):
        embedding_of(tmp_path / "a.safetensors", {" ": np.zeros(WIDTH)}, "", None, WIDTH, "it")


def test_an_older_bundle_says_what_to_do(plain: Path, files: dict[str, Path], tmp_path: Path) -> None:
    old = shutil.copytree(plain, tmp_path / "old")
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["components"]["text_encoder"]["inputs"][1]
    (old / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EmbeddingError, match=r"an older pixrt exported it.*pixrt export"):
        Editor(old, embeddings=[files["one.safetensors"]])
