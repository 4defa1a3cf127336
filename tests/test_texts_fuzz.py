"""Every reader of texts on mutated ones: it reads them, or raises a PixrtError of one line, in time and flat memory.

    python tests/test_texts_fuzz.py [COUNT [SEED]]

runs more of them, and prints a line per reader.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from broken_texts import mutated, mutations
from loras import ATTENTION, SHAPES, TEXT, lora, write
from pixrt.apps.entries import read_entries
from pixrt.apps.journal import earlier_seed, open_journal
from pixrt.bundles import hashes
from pixrt.bundles.guard import files_of_graph
from pixrt.bundles.manifest import TokenizerSpec, parse_manifest
from pixrt.bundles.store import BUILT_IN, open_bundle
from pixrt.bundles.tokenizer import Tokenizer
from pixrt.errors import ParametersMissing, PixrtError
from pixrt.lora.merging import load_loras
from pixrt.lora.scales import METADATA_KEY
from pixrt.lora.weights import read_table
from pixrt.maths.solvers import build_table, scheduler_name
from pixrt.options.stored import options_from, unknown_parameters
from pixrt.options.tasks import EditOptions
from pixrt.pictures.a1111 import read_a1111
from pixrt.pictures.codecs import _parsed
from pixrt.reading import Malformed, parse_json, parse_toml
from pixrt_export.data.image_folder import read_image_folder
from pixrt_export.data.original import read_original
from pixrt_export.data.rows import BadRow, Row
from pixrt_export.opening import open_checkpoint
from pixrt_export.training.options import EditTrainingOptions
from pixrt_export.training.plan import read_plan

ALL = 20_000
SLOWEST_S = 20.0
MOST_GROWTH_BYTES = 64 << 20
DATA = Path(__file__).parent / "data"
BUNDLE = BUILT_IN / "shapes"


@dataclass(frozen=True)
class Reader:
    """What reads a text: whole texts to begin with, and how one is read in a folder of its own."""

    share: int  # of a hundred
    texts: Callable[[Path], list[bytes]]
    read: Callable[[bytes, Path], object]


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """Of a text that is a file."""

    def read_file(text: bytes, folder: Path) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        return read(path)

    return read_file


def _lora_texts(folder: Path) -> list[bytes]:
    plain = lora(ATTENTION[:2]) | lora(TEXT[:1], part="text_encoder")
    config = {"unet.r": 2, "unet.lora_alpha": 4, "unet.alpha_pattern": {ATTENTION[0]: 8}, "text_encoder.r": 2}
    return [
        write(folder / "a", plain).read_bytes(),
        write(folder / "b", plain, {METADATA_KEY: json.dumps(config), "x": "y"}).read_bytes(),
    ]


def _read_lora_header(text: bytes, folder: Path) -> object:
    """A mutated header before the whole data, with its length set right: else nothing but the length is tried."""
    path = folder / "it.safetensors"
    if random.Random(text).random() < 0.8:
        text = len(text[8:]).to_bytes(8, "little") + text[8:]
    path.write_bytes(text)
    return load_loras([path], SHAPES, "shapes")


def _lora_headers(folder: Path) -> list[bytes]:
    """Headers alone, and the data behind them as the header's own, so that JSON is mutated and not numbers."""
    return [text[8 : 8 + int.from_bytes(text[:8], "little")] for text in _lora_texts(folder)]


def _read_lora_json(text: bytes, folder: Path) -> object:
    data = _lora_texts(folder)[0]
    data = data[8 + int.from_bytes(data[:8], "little") :]
    path = folder / "it.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return load_loras([path], SHAPES, "shapes")


def _read_lora_metadata(text: bytes, folder: Path) -> object:
    path = write(folder / "it.safetensors", lora(ATTENTION[:1]), {METADATA_KEY: text.decode(errors="replace")})
    return load_loras([path], SHAPES, "shapes")


JOB = {"task": "edit", "options": {"seed": 3, "steps": 2}, "model": "x"}


def _journal_texts(folder: Path) -> list[bytes]:
    begin = json.dumps({"pixrt_batch": 2, "job": JOB})
    done = json.dumps({"output": "a.png", "key": "k", "state": "done", "bytes": 3, "sha256": "0" * 64, "source": "a"})
    failed = json.dumps({"output": "b.png", "key": "k", "state": "failed", "error": "it"})
    return [
        "\n".join([begin, done, failed, done, ""]).encode(),
        f"{begin}\n".encode(),
        f"{begin}\n{failed}\n{done}".encode(),
    ]


def _read_journal(text: bytes, folder: Path) -> None:
    (folder / "pixrt-batch.jsonl").write_bytes(text)
    earlier_seed(folder)
    with open_journal(folder, JOB) as journal:
        journal.find("a.png")


TABLE = [
    {"image": "a.png", "instruction": "x", "steps": 3, "seed": 7, "output": "b.png", "mask": None},
    {"image": "c.png"},
]
JSON_LINES = ["\n".join(map(json.dumps, TABLE)).encode(), b'{"image": "a.png", "guidance_scale": 7.5}\n']
CSV = [b"image,instruction,steps\na.png,x,3\nb.png,y,4\n", b"sep=;\nimage;guidance_scale\n\na.png;7,5\n"]
VOCAB = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "b</w>": 3, "a": 4, "b": 5, "ab</w>": 6}
SPEC = TokenizerSpec("v", "m", 77, "<|startoftext|>", "<|endoftext|>", "<|endoftext|>", "<|endoftext|>")
PARAMETERS = {
    "pixrt": "0.1",
    "task": "edit",
    "instruction": "x",
    "steps": 3,
    "seed": 7,
    "guidance_scale": 7.5,
    "loras": [],
}
A1111 = b"a lamp\nNegative prompt: dark\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 64x64, Version: v1.6"


def _read_vocab(text: bytes, folder: Path) -> object:
    (folder / "v").write_bytes(text)
    (folder / "m").write_bytes(b"#version: 0.2\na b</w>\n")
    return Tokenizer(folder, SPEC).encode("ab a")


def _read_merges(text: bytes, folder: Path) -> object:
    (folder / "v").write_bytes(json.dumps(VOCAB).encode())
    (folder / "m").write_bytes(text)
    return Tokenizer(folder, SPEC).encode("ab a")


def _read_parameters(text: bytes, folder: Path) -> object:
    told = text.decode(errors="surrogateescape")
    parameters = _parsed(told) or read_a1111(told)
    if parameters is None:
        raise ParametersMissing("it holds none", remedy="Use another")
    unknown_parameters(parameters)
    return options_from(parameters, "it", EditOptions)


def _read_weights(text: bytes, folder: Path) -> object:
    opened = open_bundle("shapes", verify=False)
    (folder / "weights.json").write_bytes(text)
    return read_table(type(opened)(folder, opened.manifest))


def _read_graph(text: bytes, folder: Path) -> object:
    (folder / "unet.onnx").write_bytes(text)
    return files_of_graph(folder, open_bundle("shapes", verify=False).manifest, "unet.onnx")


def _read_hashes(text: bytes, folder: Path) -> object:
    path, place = folder / "hashes.json", hashes._place
    path.write_bytes(text)
    path.chmod(0o600)
    hashes._place = lambda: path  # type: ignore[assignment]
    try:
        return hashes.remembered()
    finally:
        hashes._place = place


def _read_manifest(text: bytes, folder: Path) -> object:
    manifest = parse_manifest(text, "m")
    return build_table(manifest.defaults.scheduler, manifest.scheduler, 20)


CONFIGS = {
    b"UNet2D": "unet/config.json",
    b"Autoencoder": "vae/config.json",
    b"CLIPText": "text_encoder/config.json",
    b"Scheduler": "scheduler/scheduler_config.json",
    b"": "tokenizer/tokenizer_config.json",
}


def _checkpoint_texts(folder: Path) -> list[bytes]:
    shutil.copytree(DATA / "shapes_checkpoint", folder / "checkpoint", ignore=shutil.ignore_patterns("*.safetensors"))
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        (folder / "checkpoint" / part / f"{name}.safetensors").touch()
    return [(folder / "checkpoint" / name).read_bytes() for name in CONFIGS.values()]


def _read_checkpoint(text: bytes, folder: Path) -> object:
    path = folder / "checkpoint" / next(name for mark, name in CONFIGS.items() if mark in text)
    whole = path.read_bytes()
    path.write_bytes(text)
    try:
        opened = open_checkpoint(str(folder / "checkpoint"))
        _ = opened.in_channels, opened.vae_scale, opened.sample_size, opened.known_factor, opened.tokenizer()
        return build_table(scheduler_name(opened.scheduler), opened.scheduler, 20)
    finally:
        path.write_bytes(whole)


ROW = {
    "input_image": "0a.png",
    "edit_prompt": "x",
    "edited_image": "0b.png",
    "original_prompt": "y",
    "edited_prompt": "z",
}


def _read_seeds(text: bytes, folder: Path) -> object:
    (folder / "seeds.json").write_bytes(text)
    (folder / "one").mkdir(exist_ok=True)
    (folder / "one/prompt.json").write_bytes(text if b"edit" in text else b'{"edit": "x"}')
    return list(read_original(folder))


def _good(rows: Iterable[Row | BadRow]) -> list[Row]:
    """All rows. Raises Malformed if one is refused: whoever uses a set tells the row, and goes on."""
    found = list(rows)
    if bad := [row for row in found if isinstance(row, BadRow)]:
        raise Malformed(bad[0].reason)
    return [row for row in found if isinstance(row, Row)]


READERS = {
    "json": Reader(
        6, lambda _: [(BUNDLE / "manifest.json").read_bytes(), b'[1, "a", {"b": null}]'], lambda t, _: parse_json(t)
    ),
    "toml": Reader(
        6,
        lambda _: [path.read_bytes() for path in sorted((DATA / "../../export/configs").glob("*.toml"))],
        lambda text, _: parse_toml(text),
    ),
    "manifest": Reader(
        10,
        lambda _: [(BUNDLE / "manifest.json").read_bytes(), (DATA / "manifest-schema-1.json").read_bytes()],
        _read_manifest,
    ),
    "weights": Reader(4, lambda _: [(BUNDLE / "weights.json").read_bytes()], _read_weights),
    "graph": Reader(4, lambda _: [(BUNDLE / "vae_encoder.onnx").read_bytes()], _read_graph),
    "lora": Reader(8, _lora_texts, _read_lora_header),
    "lora header": Reader(8, _lora_headers, _read_lora_json),
    "lora metadata": Reader(
        6,
        lambda _: [json.dumps({"unet.r": 2, "unet.lora_alpha": 4, "unet.alpha_pattern": {ATTENTION[0]: 8}}).encode()],
        _read_lora_metadata,
    ),
    "journal": Reader(6, _journal_texts, _read_journal),
    "table of JSON": Reader(
        6,
        lambda _: JSON_LINES,
        _file("t.jsonl", lambda path: list(read_entries([str(path)], "x", {}, path.parent / "out"))),
    ),
    "table of CSV": Reader(
        6, lambda _: CSV, _file("t.csv", lambda path: list(read_entries([str(path)], "x", {}, path.parent / "out")))
    ),
    "vocabulary": Reader(4, lambda _: [json.dumps(VOCAB).encode()], _read_vocab),
    "merges": Reader(4, lambda _: [b"#version: 0.2\na b</w>\na a\n"], _read_merges),
    "parameters": Reader(6, lambda _: [json.dumps(PARAMETERS).encode(), A1111], _read_parameters),
    "hashes": Reader(2, lambda _: [b'{"version": 1, "sha256": {"1:2:3:4:5": "' + b"0" * 64 + b'"}}'], _read_hashes),
    "checkpoint": Reader(4, _checkpoint_texts, _read_checkpoint),
    "training config": Reader(
        2,
        lambda _: [path.read_bytes() for path in sorted((DATA / "../../export/configs").glob("*.toml"))],
        _file("plan.toml", lambda path: read_plan(EditTrainingOptions, path.parent / "run", config=path)),
    ),
    "training lines": Reader(
        4,
        lambda _: [json.dumps(ROW).encode(), b"\n".join([json.dumps(ROW).encode()] * 3)],
        _file("set/metadata.jsonl", lambda path: _good(read_image_folder(path.parent))),
    ),
    "seeds": Reader(2, lambda _: [b'[["one", ["1", "2"]], ["one", [3]]]', b'{"edit": "x", "input": "y"}'], _read_seeds),
    "manifest on disk": Reader(2, lambda _: [b"{}"], _file("m/manifest.json", lambda path: open_bundle(path.parent))),
}


def run(name: str, count: int, seed: int, folder: Path) -> Counter[str]:
    """Mutate and read; what became of the texts. Raises AssertionError with the seed and number of a bad one."""
    reader, outcomes = READERS[name], Counter[str]()
    begin = None
    for number, text in enumerate(mutations(reader.texts(folder), count, seed)):
        if number == count // 4:
            begin = _memory()
        started = time.process_time()
        try:
            reader.read(text, folder)
            outcomes["read"] += 1
        except (PixrtError, Malformed) as error:
            said = str(error)
            assert "\n" not in said, (name, seed, number, said)
            assert len(said) < 4100, (name, seed, number, said)
            said.encode()
            outcomes[type(error).__name__] += 1
        except BaseException as error:
            (folder / "bad").write_bytes(text)
            raise AssertionError(f"{name}, seed {seed}, text {number}: {error!r} of {text[:300]!r}") from error
        took = time.process_time() - started
        assert took < SLOWEST_S, f"{name}, seed {seed}, text {number} took {took:.1f} s"
    growth = _memory() - (begin or 0) if begin else 0
    assert growth < MOST_GROWTH_BYTES, f"{name}: memory grew by {growth} bytes"
    return outcomes


def _memory() -> int:
    """What the process holds, in bytes; 0 where the system does not tell."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def test_they_are_as_many_as_are_promised() -> None:
    assert sum(reader.share for reader in READERS.values()) == 100


def test_the_same_seed_makes_the_same_texts() -> None:
    texts = [b'{"a": [1, 2, {"b": "c"}]}', b"a,b\n1,2\n"]
    first, again, other = (list(mutations(texts, 50, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert mutated(b"", random.Random(0)) is not None


@pytest.mark.parametrize("name", READERS)
def test_some_mutated_texts(name: str, tmp_path: Path) -> None:
    run(name, 30, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_mutated_texts(name: str, tmp_path: Path) -> None:
    outcomes = run(name, READERS[name].share * ALL // 100, 1, tmp_path)
    assert outcomes.total() == READERS[name].share * ALL // 100
    assert len(outcomes) > 1 or name in ("hashes", "merges", "manifest on disk")


def main(count: int, seed: int) -> None:
    """Run all of them."""
    for name, reader in READERS.items():
        folder = Path(tempfile.mkdtemp())
        started, most = time.perf_counter(), reader.share * count // 100
        outcomes = run(name, most, seed, folder)
        told = ", ".join(f"{kind} {times}" for kind, times in outcomes.most_common())
        print(f"{name:16} {most:6} in {time.perf_counter() - started:6.1f} s: {told}", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*(map(int, [*sys.argv[1:], *("20000", "1")[len(sys.argv) - 1 :]])))
