"""Textual-inversion embeddings given to the model `shapes`; against diffusers: `test_embedding_export.py`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from pixrt import Editor, EmbeddingError, read_parameters
from pixrt.bundles.store import open_bundle
from pixrt.cli.embeddings import embedding_inputs
from pixrt.lora.embeddings import give
from pixrt.serve.variants import files_in

WIDTH = 128


@pytest.fixture
def file(tmp_path: Path) -> Path:
    vectors = np.random.default_rng(0).normal(0, 0.5, (3, WIDTH)).astype(np.float32)
    save_file({"<toy>": vectors}, tmp_path / "toy.safetensors")
    return tmp_path / "toy.safetensors"


def test_rows_and_ids(file: Path) -> None:
    given = give([file, (file, "zwx")], open_bundle("shapes").manifest)
    assert [token.content for token in given.tokens] == ["<toy>", "zwx"]
    assert [token.ids for token in given.tokens] == [(-1, -2, -3), (-4, -5, -6)]
    assert given.rows is not None
    assert given.rows.shape == (128, WIDTH)
    assert np.array_equal(given.rows[:3], given.rows[3:6])
    assert not given.rows[6:].any()


def test_more_than_the_graph_takes(tmp_path: Path) -> None:
    save_file({"<all>": np.zeros((129, WIDTH), np.float16)}, tmp_path / "all.safetensors")
    with pytest.raises(EmbeddingError, match="have 129 vectors, more than 128"):
        give([tmp_path / "all.safetensors"], open_bundle("shapes").manifest)


def test_a_token_of_the_bundles_own(file: Path) -> None:
    with pytest.raises(EmbeddingError, match=r"'<\|endoftext\|>', which is a token of the bundle"):
        give([(file, "<|endoftext|>")], open_bundle("shapes").manifest)


def test_the_command_line_gives_them_and_the_picture_says_so(file: Path, run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = ("edit", "scene.png", "make it <toy>", "--seed", 1, "--steps", 2, "-o")
    assert run(*words, "plain.png").code == 0
    assert run(*words, "toy.png", "--embedding", file).code == 0
    assert run(*words, "named.png", "--embedding", f"{file}:toy").code == 0
    plain, toy, named = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("plain", "toy", "named"))
    assert not np.array_equal(plain, toy)
    assert not np.array_equal(toy, named)  # there it is "<", the embedding, ">"
    (said,) = read_parameters(tmp_path / "toy.png")["embeddings"]
    assert (said["name"], said["token"], len(said["sha256"])) == ("toy.safetensors", "<toy>", 64)
    refused = run(*words, "no.png", "--embedding", "none.safetensors")
    assert (refused.code, "none.safetensors" in refused.err) == (2, True)


def test_what_the_flag_says() -> None:
    assert embedding_inputs(["a.safetensors", "a.pt:<x>", "C:/b.safetensors", "odd:name"]) == (
        Path("a.safetensors"),
        (Path("a.pt"), "<x>"),
        Path("C:/b.safetensors"),
        Path("odd:name"),
    )


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(EmbeddingError, match=r"is a pickle.*pixrt export --embedding FILE --allow-pickle"):
        Editor("shapes", embeddings=[tmp_path / "a.pt"])


def test_a_servers_folder(file: Path) -> None:
    (file.parent / "notes.txt").write_text("no embedding")
    assert files_in(str(file.parent)) == [file]
    assert files_in(None) == []
