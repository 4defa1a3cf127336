"""Manifests are read strictly: what is missing, unknown, mistyped or newer is named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pixrt.bundles.manifest import SCHEMA, Component, Manifest, TensorSpec, parse_manifest
from pixrt.bundles.store import BUILT_IN
from pixrt.errors import BundleError, BundleTooNew


@pytest.fixture
def value() -> dict[str, Any]:
    return json.loads((BUILT_IN / "shapes" / "manifest.json").read_text())


def test_round_trip(value: dict[str, Any]) -> None:
    manifest = parse_manifest(json.dumps(value), "m")
    assert parse_manifest(manifest.to_json(), "m") == manifest
    assert manifest.component(Component.UNET).inputs[0].name == "sample"


def test_a_bundle_may_name_examples(value: dict[str, Any]) -> None:
    manifest = parse_manifest(json.dumps(value), "m")
    assert "make the background blue" in manifest.examples
    del value["examples"]
    without = parse_manifest(json.dumps(value), "m")
    assert without.examples == ()
    assert "examples" not in json.loads(without.to_json())  # an older pixrt reads it


def _unlisted_file(value: dict[str, Any]) -> None:
    value["components"]["unet"]["file"] = "other.onnx"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["latents"].pop("scaling"), "latents.scaling is missing"),
        (lambda v: v.update(surprise=1), "surprise is unknown"),
        (lambda v: v.update(precision="int4"), "precision is 'int4', which is not one of fp32, fp16"),
        (lambda v: v.update(native_resolution="64"), "native_resolution is '64', which is not int"),
        (lambda v: v.update(native_resolution=0), "native_resolution is 0"),
        (lambda v: v["latents"].update(scaling=True), "latents.scaling"),
        (lambda v: v.update(preview=[[0.0, 0.0, 0.0]]), "rows of 3 numbers"),
        (lambda v: v.update(components=[]), "components"),
        (lambda v: v["components"]["unet"]["inputs"][0].pop("dtype"), "components.unet.inputs[0].dtype is missing"),
        (lambda v: v["components"]["unet"]["inputs"][0].update(shape=["batch", 1.5]), "shape"),
        (lambda v: v["files"].update({"../../etc/passwd": {"bytes": 1, "sha256": ""}}), "leaves the bundle"),
        (lambda v: v["files"].update({"/etc/passwd": {"bytes": 1, "sha256": ""}}), "leaves the bundle"),
        (_unlisted_file, "other.onnx is used but not listed"),
        (lambda v: v["components"]["unet"]["inputs"][0].update(name="x"), "unet has the tensors"),
        (lambda v: v["components"]["unet"]["outputs"].append(v["components"]["unet"]["inputs"][0]), "unet has"),
        (lambda v: v["tokenizers"][0].update(max_length=1), "tokenizers[0].max_length is 1: no room for a word"),
        (lambda v: v.update(tokenizers=[]), "no tokenizers"),
        (lambda v: v.update(family="flux"), "family is 'flux', which is not one of stable-diffusion"),
        (lambda v: v.update(prediction="v_prediction"), "not one of epsilon, v, flow"),
        (lambda v: v["components"].update(unet_2=v["components"]["unet"]), "the component 'unet_2' is none of"),
        (lambda v: v["latents"].update(shift=float("nan")), "latents.shift is nan"),
        (lambda v: v["latents"].update(scaling=float("inf")), "above 0 and finite"),
        (lambda v: v.update(schema=0), "schema is 0"),
        (lambda v: v.update(schema="1"), "schema is '1'"),
        (lambda v: v.update(schema=True), "schema is True"),
        (lambda v: v.pop("schema"), "schema is None"),
        (lambda v: v.update(examples="make it red"), "examples"),
        (lambda v: v.update(examples=[5]), "examples[0] is '5', which is not str"),
        (lambda v: v.update(examples=["x"] * 25), "there are 25 examples, more than 24"),
        (lambda v: v.update(examples=["x", " "]), "the example ' ' is no line"),
        (lambda v: v.update(examples=["x" * 201]), "of 1 to 200 characters"),
        (lambda v: v.update(examples=["two\nlines"]), "is no line"),
    ],
)
def test_a_wrong_manifest_is_named(value: dict[str, Any], change: Any, words: str) -> None:
    change(value)
    with pytest.raises(BundleError) as caught:
        parse_manifest(json.dumps(value), "m")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


class TestTheFirstSchema:
    """Bundles that were exported before families came."""

    @pytest.fixture
    def old(self) -> dict[str, Any]:
        return json.loads((Path(__file__).parent.parent / "data" / "manifest-schema-1.json").read_text())

    def test_opens_as_the_same_bundle(self, old: dict[str, Any]) -> None:
        """As the second schema's export of the same checkpoint does."""
        assert old["schema"] == 1
        manifest = parse_manifest(json.dumps(old), "m")
        second = (Path(__file__).parent.parent / "data" / "manifest-schema-2.json").read_text()
        assert manifest == dataclasses.replace(parse_manifest(second, "m"), examples=())
        assert (manifest.schema, manifest.family, manifest.prediction) == (2, "stable-diffusion", "v")
        assert dataclasses.astuple(manifest.latents) == (4, 4, old["scaling_factor"], 0.0)

    def test_its_fused_step_is_left_out(self, old: dict[str, Any]) -> None:
        """It was another graph. Its engines go with it."""
        old["components"]["unet_step"] = old["components"]["unet"]
        assert "unet_step" not in parse_manifest(json.dumps(old), "m").components

    @pytest.mark.parametrize("key", ["latent_channels", "vae_scale", "scaling_factor", "prediction_type", "tokenizer"])
    def test_what_it_lacks_is_named(self, old: dict[str, Any], key: str) -> None:
        del old[key]
        with pytest.raises(BundleError, match=f"the key {key} is missing"):
            parse_manifest(json.dumps(old), "m")

    @pytest.mark.parametrize(
        ("key", "wrong"),
        [
            *(("components", wrong) for wrong in (None, [], "x", 5, [5], {"unet": 5})),
            *(("engines", wrong) for wrong in (None, {}, "x", 5, [5], {"unet_step": 5})),
            *(("tokenizer", wrong) for wrong in (None, [], {}, "x", 5, [5])),
            *(("prediction_type", wrong) for wrong in (None, [], {}, "x", 5)),
            *(("latent_channels", wrong) for wrong in (None, [], {}, "x", 5.5, -4)),
        ],
    )
    def test_wrong_kinds_are_named(self, old: dict[str, Any], key: str, wrong: Any) -> None:
        old[key] = wrong
        with pytest.raises(BundleError):
            parse_manifest(json.dumps(old), "m")


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
