"""Manifests are read strictly: what is missing, unknown, mistyped or newer is named."""

import dataclasses
import json
from typing import Any

import pytest

from pixrt.bundles.manifest import SCHEMA, Component, Manifest, TensorSpec, parse_manifest
from pixrt.bundles.store import BUILT_IN
from pixrt.errors import BundleError, BundleTooNew


@pytest.fixture
def value() -> dict[str, Any]:
    return json.loads((BUILT_IN / "demo" / "manifest.json").read_text())


def test_round_trip(value: dict[str, Any]) -> None:
    manifest = parse_manifest(json.dumps(value), "m")
    assert parse_manifest(manifest.to_json(), "m") == manifest
    assert manifest.component(Component.UNET).inputs[0].name == "sample"


def _unlisted_file(value: dict[str, Any]) -> None:
    value["components"]["unet"]["file"] = "other.onnx"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("scaling_factor"), "scaling_factor is missing"),
        (lambda v: v.update(surprise=1), "surprise is unknown"),
        (lambda v: v.update(precision="int8"), "precision is 'int8', which is not one of fp32, fp16"),
        (lambda v: v.update(native_resolution="64"), "native_resolution is '64', which is not int"),
        (lambda v: v.update(native_resolution=0), "native_resolution is 0"),
        (lambda v: v.update(scaling_factor=True), "scaling_factor"),
        (lambda v: v.update(preview=[[0.0, 0.0, 0.0]]), "rows of 3 numbers"),
        (lambda v: v.update(components=[]), "components"),
        (lambda v: v["components"]["unet"]["inputs"][0].pop("dtype"), "components.unet.inputs[0].dtype is missing"),
        (lambda v: v["components"]["unet"]["inputs"][0].update(shape=["batch", 1.5]), "shape"),
        (lambda v: v["files"].update({"../../etc/passwd": {"bytes": 1, "sha256": ""}}), "leaves the bundle"),
        (lambda v: v["files"].update({"/etc/passwd": {"bytes": 1, "sha256": ""}}), "leaves the bundle"),
        (_unlisted_file, "other.onnx is used but not listed"),
        (lambda v: v["components"]["unet"]["inputs"][0].update(name="x"), "unet has the tensors"),
        (lambda v: v["components"]["unet"]["outputs"].append(v["components"]["unet"]["inputs"][0]), "unet has"),
        (lambda v: v["tokenizer"].update(max_length=1), "no room for a word"),
        (lambda v: v.update(scaling_factor=float("inf")), "above 0 and finite"),
        (lambda v: v.update(schema=0), "schema is 0"),
        (lambda v: v.update(schema="1"), "schema is '1'"),
        (lambda v: v.update(schema=True), "schema is True"),
        (lambda v: v.pop("schema"), "schema is None"),
    ],
)
def test_a_wrong_manifest_is_named(value: dict[str, Any], change: Any, words: str) -> None:
    change(value)
    with pytest.raises(BundleError) as caught:
        parse_manifest(json.dumps(value), "m")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_a_newer_schema_has_its_own_error(value: dict[str, Any]) -> None:
    value["schema"] = SCHEMA + 1
    with pytest.raises(BundleTooNew, match=f"reads up to {SCHEMA}"):
        parse_manifest(json.dumps(value), "m")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\x00", "[" * 100_000])
def test_text_that_is_no_object(text: str) -> None:
    with pytest.raises(BundleError):
        parse_manifest(text, "m")


def test_a_missing_component_is_named(value: dict[str, Any]) -> None:
    del value["components"]["unet"]
    with pytest.raises(BundleError, match="no component unet"):
        parse_manifest(json.dumps(value), "m").component(Component.UNET)


@pytest.mark.parametrize(("channels", "task"), [(4, "generate"), (8, "edit"), (9, "inpaint")])
def test_task_follows_the_channels(value: dict[str, Any], channels: int, task: str) -> None:
    manifest: Manifest = parse_manifest(json.dumps(value), "m")
    assert dataclasses.replace(manifest, unet_in_channels=channels).task == task


def test_a_free_dimension_is_not_a_number() -> None:
    with pytest.raises(BundleError, match="free"):
        TensorSpec("sample", "float32", ("batch", 8)).fixed(0)
