"""A bundle in Triton's model repository: its configuration, and its model on a double of the Python backend."""

import importlib.util
import io
import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import triton_double
from pixrt import Editor
from pixrt.bundles.store import find_bundle, open_bundle
from pixrt.errors import OptionError, OutputError
from pixrt_export.triton import require_free, write_repository
from shapes import BLUE, INVERT, SCENE, Run
from triton_double import InferenceRequest, TritonError

PICTURE = SCENE.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(find_bundle("shapes"), tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def config(folder: Path) -> str:
    return (folder / "config.pbtxt").read_text()


@pytest.fixture(scope="module")
def model(folder: Path, config: str) -> Iterator[Any]:
    """The model as Triton opens it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "triton_python_backend_utils", triton_double)
        spec = importlib.util.spec_from_file_location("model", folder / "1" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "model", module)  # as dataclasses want it
        spec.loader.exec_module(module)
    opened = module.TritonPythonModel()
    parsed = {
        "max_batch_size": int(re.findall(r"max_batch_size: (\d+)", config)[0]),
        "parameters": {"backend": {"string_value": "ort-cpu"}},
    }
    opened.initialize(
        {"model_config": json.dumps(parsed), "model_repository": str(folder), "model_version": "1", "model_name": "m"}
    )
    yield opened
    opened.finalize()


def pixels(file: bytes) -> "np.ndarray[Any, Any]":
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def test_requests_are_made_together_and_each_is_the_single_edit(model: Any, editor: Editor) -> None:
    first = InferenceRequest({"IMAGE": [PICTURE], "INSTRUCTION": [INVERT.encode()]}, {"seed": 3, "steps": 3})
    second = InferenceRequest(
        {"IMAGE": [PICTURE, PICTURE], "INSTRUCTION": [BLUE.encode(), INVERT.encode()]},
        {"seed": 5, "steps": 2, "guidance_scale": 1.0, "output_format": "webp"},
    )
    answers = model.execute([first, second])
    assert [answer.column("SEED") for answer in answers] == [[3], [5, 6]]
    alone = editor.edit(PICTURE, INVERT, seed=3, steps=3)
    assert np.array_equal(pixels(answers[0].column("IMAGE")[0]), np.asarray(alone.image))
    last = editor.edit(PICTURE, INVERT, seed=6, steps=2, guidance_scale=1.0)
    assert answers[1].column("IMAGE")[1] == last.to_bytes("webp")
    info = json.loads(answers[1].column("INFO")[0])
    assert (info["instruction"], info["steps"], info["backend"]) == (BLUE, 2, "ort-cpu")


@pytest.mark.parametrize(
    ("columns", "said", "words"),
    [
        ({"IMAGE": [PICTURE]}, {}, "no INSTRUCTION"),
        ({"IMAGE": [b"no picture"], "INSTRUCTION": [b"x"]}, {}, "picture"),
        ({"INSTRUCTION": [b"x"]}, {}, "image"),
        ({"IMAGE": [PICTURE], "INSTRUCTION": [b"x"]}, {"steps": 0}, "steps"),
        ({"IMAGE": [PICTURE], "INSTRUCTION": [b"x"]}, {"stepz": 3}, "steps"),
        ({"IMAGE": [PICTURE], "INSTRUCTION": [b"x"]}, {"task": "paint"}, "task"),
        ({"IMAGE": [PICTURE], "INSTRUCTION": [b"x"]}, {"output_format": "gif"}, "output_format"),
        ({"IMAGE": [PICTURE], "INSTRUCTION": [b"x", b"y"]}, {}, "IMAGE has 1"),
        ({"IMAGE": [PICTURE[:200]], "INSTRUCTION": [b"x"]}, {}, "picture"),
    ],
)
def test_what_is_wrong_fails_its_own_request(columns: Any, said: Any, words: str, model: Any) -> None:
    good = InferenceRequest({"IMAGE": [PICTURE], "INSTRUCTION": [b"x"]}, {"seed": 1, "steps": 1})
    bad, made = model.execute([InferenceRequest(columns, said), good])
    assert words in str(bad.error)
    assert bad.error.code == TritonError.INVALID_ARG
    assert made.column("SEED") == [1]


def test_the_configuration_has_limits_and_the_tensors_of_the_model(config: str, folder: Path) -> None:
    assert f'name: "{folder.name}"' in config, "Triton wants a model's folder to be called like it"
    assert "max_queue_size: 64 timeout_action: REJECT allow_timeout_override: true" in config
    named = re.findall(r'\{ name: "(\w+)" data_type: (\w+) dims: \[ 1 \]( optional: true)? \}', config)
    assert [(name, bool(optional)) for name, _, optional in named[:4]] == [
        ("INSTRUCTION", False),
        ("IMAGE", True),
        ("MASK", True),
        ("STYLE", True),
    ]
    assert [(name, kind) for name, kind, _ in named[4:]] == [
        ("IMAGE", "TYPE_STRING"),
        ("SEED", "TYPE_INT64"),
        ("INFO", "TYPE_STRING"),
    ]


def test_triton_parses_the_configuration(config: str) -> None:
    definitions = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="there is no tritonclient[grpc]")
    text_format = pytest.importorskip("google.protobuf.text_format")
    parsed = text_format.Parse(config, definitions.ModelConfig())
    assert parsed.max_batch_size == 8
    assert parsed.dynamic_batching.default_queue_policy.max_queue_size == 64
    assert set(parsed.model_warmup[0].inputs) == {"IMAGE", "INSTRUCTION"}


def test_the_warm_up_is_a_request_that_is_made(folder: Path, config: str, model: Any) -> None:
    columns = {}
    for name, file in re.findall(r'key: "(\w+)" value \{ data_type: TYPE_STRING .*? input_data_file: "(\w+)"', config):
        data = (folder / "warmup" / file).read_bytes()
        assert struct.unpack("<I", data[:4]) == (len(data) - 4,)
        columns[name] = [data[4:]]
    (answer,) = model.execute([InferenceRequest(columns)])
    assert len(answer.column("IMAGE")) == 1


def test_the_repository_has_a_bundle_of_its_own_and_is_replaced_if_told(folder: Path) -> None:
    assert open_bundle(folder / "1" / "bundle", verify=True).manifest == open_bundle("shapes").manifest
    with pytest.raises(OutputError, match="exists"):
        write_repository(find_bundle("shapes"), folder.parent)
    assert write_repository(find_bundle("shapes"), folder.parent, overwrite=True) == folder


@pytest.mark.parametrize("name", ["a b", "../up", "", 'quo"te'])
def test_names_that_triton_does_not_take(name: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--name"):
        require_free(tmp_path, name, overwrite=True)


def test_the_command_refuses_before_it_exports(run: Run, tmp_path: Path) -> None:
    (tmp_path / "repository" / "new").mkdir(parents=True)
    said = run("export", "nowhere", "-o", "new", "--triton", "repository")
    assert (said.code, "exists" in said.err) == (7, True)
