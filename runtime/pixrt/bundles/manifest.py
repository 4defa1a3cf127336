"""What a bundle's manifest says, as frozen dataclasses, and the strict reading of them from JSON.

A bundle is one folder: `manifest.json`, an ONNX file per component, the tokenizer's files. `store` opens it,
`pixrt_export` writes it. Must not import numpy, Pillow or anything of pixrt but errors, reading and what is beneath it
in this room.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pixrt.bundles.bounds import require_bounds, require_within
from pixrt.bundles.decoding import decode, unusable
from pixrt.bundles.engine_spec import EngineSpec
from pixrt.bundles.instructions import fault_of_examples, fault_of_instructions, is_unknown
from pixrt.bundles.quantisation_spec import QuantisationSpec as QuantisationSpec
from pixrt.bundles.tensor_spec import TensorSpec as TensorSpec
from pixrt.errors import BundleError, BundleTooNew
from pixrt.reading import Malformed, parse_json

SCHEMA = 2
MANIFEST_NAME = "manifest.json"

Precision = Literal["fp32", "fp16", "fp16-weights", "int8", "int8-weights"]
INT8: tuple[Precision, ...] = ("int8", "int8-weights")
Prediction = Literal["epsilon", "v", "flow"]
FamilyName = Literal["stable-diffusion"]
Task = Literal["edit", "generate", "inpaint"]


class Component(StrEnum):
    """The networks of a bundle."""

    TEXT_ENCODER = "text_encoder"
    UNET = "unet"
    VAE_ENCODER = "vae_encoder"
    VAE_DECODER = "vae_decoder"
    UNET_STEP = "unet_step"  # the UNet with guidance and the solver's update around it: see `fused`
    UNET_SHALLOW = (
        "unet_shallow"  # the UNet's last layers, which go on from what its deep layers made: see `maths.reuse`
    )
    VAE_DECODER_FP32 = "vae_decoder_fp32"  # beside an FP16 decoder, for a picture that overflows in that

    @property
    def reference(self) -> str:
        """What its graph is checked against when it is exported."""
        return "the UNet's graph" if self is Component.UNET_STEP else "PyTorch"


# What every edit needs; the rest is other ways of doing the same.
NETWORKS = (Component.TEXT_ENCODER, Component.UNET, Component.VAE_ENCODER, Component.VAE_DECODER)


@dataclass(frozen=True, slots=True)
class ExportCheck:
    """How far the ONNX network is from its reference on the same inputs, relative to the reference's largest value.

    The reference is PyTorch; of a network that was calibrated it is its graph in FP32, on inputs of edits; of the fused
    step it is the UNet's graph, and errors of predictions are divided by the sum of guidance's weights, by which
    guidance multiplies the rounding of FP16.
    """

    max_error: float
    mean_error: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """One network: its ONNX file, its tensor table, the layers kept in FP32, and its check against PyTorch."""

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    kept_fp32: tuple[str, ...]
    check: ExportCheck


@dataclass(frozen=True, slots=True)
class FileSpec:
    """Size in bytes and SHA-256 (hexadecimal) of one file of the bundle."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """A LoRA in use: its file's name and SHA-256 (hexadecimal), and how strongly it was applied.

    `text_encoder_scale` is the text encoder's where that is another.
    """

    name: str
    sha256: str
    scale: float
    text_encoder_scale: float | None = None

    def scale_of(self, component: str) -> float:
        """How strongly it was applied to one network."""
        own = self.text_encoder_scale if component == Component.TEXT_ENCODER else None
        return self.scale if own is None else own

    @property
    def scales(self) -> str:
        """How strongly it was applied, as `--lora` has it."""
        return f"{self.scale!r}" if self.text_encoder_scale is None else f"{self.scale!r}:{self.text_encoder_scale!r}"

    @property
    def identity(self) -> str:
        """What it is, whatever its file is called."""
        return f"{self.sha256}:{self.scales}"

    def facts(self) -> dict[str, Any]:
        """As a manifest and a picture's parameters have it; an older pixrt does not know the second scale."""
        said = dataclasses.asdict(self)
        if self.text_encoder_scale is None:
            del said["text_encoder_scale"]
        return said


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """A textual-inversion embedding in use: its file's name, what is written for it, and its SHA-256."""

    name: str
    token: str
    sha256: str

    @property
    def identity(self) -> str:
        """What it is, whatever its file is called."""
        return f"{self.sha256}:{self.token}"


@dataclass(frozen=True, slots=True)
class Source:
    """The checkpoint a bundle was made from: its name, and a SHA-256 over its configs and weights.

    `loras` were merged into it, and are in the SHA-256 too; so are `embeddings`, and `vae`, the name of a VAE that took
    the place of its own ("" for none).
    """

    id: str
    sha256: str
    loras: tuple[LoraSpec, ...] = ()
    vae: str = ""
    embeddings: tuple[EmbeddingSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A text that stands for token ids of its own wherever it is written, whatever the vocabulary makes of it.

    `strip_left`, `strip_right`: white space on that side is dropped. `between`: only between spaces, as transformers'
    tokenizers in Python mean a single word, or only where no letter touches it, as the tokenizers library means it.
    `any_case`: in capitals and small letters alike.
    """

    content: str
    ids: tuple[int, ...]
    strip_left: bool = False
    strip_right: bool = False
    between: Literal["anything", "spaces", "words"] = "anything"
    any_case: bool = False


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """CLIP's byte-pair tokenizer: its two files, its special tokens, and those that were added to its vocabulary."""

    vocab: str
    merges: str
    max_length: int
    bos_token: str
    eos_token: str
    unk_token: str
    pad_token: str
    added: tuple[AddedToken, ...] = ()


@dataclass(frozen=True, slots=True)
class LatentSpec:
    """What the loop works on: `channels`, each latent standing for `scale` x `scale` pixels.

    The loop has them as `(encoded - shift) * scaling`.
    """

    channels: int
    scale: int
    scaling: float
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class DeepCacheSpec:
    """Where the shallow network is cut off the UNet: `cache_branch_id` counts the UNet's skip connections from outside.

    A position of the feature at the cut stands for `scale` x `scale` latents.
    """

    cache_branch_id: int
    scale: int


@dataclass(frozen=True, slots=True)
class RungSpec:
    """A setting of less work than the defaults, measured on the bundle: see `pixrt.options.ladder`.

    `preset` is what takes it, "" for a budget only.
    """

    steps: int
    scheduler: str
    branch_interval: int = 1
    cache_interval: int = 1
    preset: Literal["", "fast", "turbo"] = ""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What an edit uses where the caller says nothing. `scheduler` is one of `pixrt.options.choices.SCHEDULERS`.

    `ladder` is what presets and budgets choose from, best first; with none they choose from what is for every bundle.
    """

    steps: int
    guidance_scale: float
    image_guidance_scale: float
    scheduler: str
    ladder: tuple[RungSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything the runtime must know about a bundle besides the weights.

    `family` is how the networks are driven (`pixrt.core.families`), `prediction` what the UNet predicts. `scheduler` is
    the checkpoint's scheduler_config.json as it is. `size_multiple` is what working pictures are padded to, in pixels;
    `native_resolution` in pixels. `tokenizers` are those of the text encoders, in their order. `preview` maps latents
    (scaled, as the UNet sees them) to RGB in [-1, 1]: one row of 3 per latent channel, then the bias. `notice` is shown
    with every output of the model ("" for none). `examples` are instructions that the model knows, to begin with;
    `instructions` are what it was taught: sentences by kind that have every word which matters (none: not said).
    `quantised` are the networks that were calibrated.
    `deep_cache` is where the shallow network begins, if there is one.
    """

    schema: int
    name: str
    notice: str
    source: Source
    family: FamilyName
    precision: Precision
    prediction: Prediction
    unet_in_channels: int
    latents: LatentSpec
    size_multiple: int
    native_resolution: int
    scheduler: dict[str, Any]
    tokenizers: tuple[TokenizerSpec, ...]
    defaults: Defaults
    preview: tuple[tuple[float, ...], ...]
    components: dict[str, ComponentSpec]
    files: dict[str, FileSpec]
    tools: dict[str, str]
    engines: tuple[EngineSpec, ...] = ()
    examples: tuple[str, ...] = ()
    instructions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    quantised: tuple[QuantisationSpec, ...] = ()
    deep_cache: DeepCacheSpec | None = None

    @property
    def task(self) -> Task:
        """What the UNet was made for, told by its input channels: noisy latents alone, with a source, with a mask."""
        extra = self.unet_in_channels - self.latents.channels
        if extra == 0:
            return "generate"
        return "edit" if extra == self.latents.channels else "inpaint"

    def is_unknown(self, text: str) -> bool:
        """Whether an instruction has no word of those that the model was taught.

        False where the bundle does not tell them, or what was merged into it may have taught others.
        """
        merged = self.source.loras or self.source.embeddings
        return bool(self.instructions) and not merged and is_unknown(text, self.instructions)

    def reference(self, name: Component) -> str:
        """What a component's graph was checked against."""
        return "its FP32 graph" if any(name == each.component for each in self.quantised) else name.reference

    def component(self, name: Component) -> ComponentSpec:
        """The component's entry. Raises BundleError where the bundle does not have it."""
        try:
            return self.components[name]
        except KeyError:
            raise BundleError(
                f"bundle {self.name!r} has no component {name}, only {', '.join(self.components)}",
                remedy="Export the checkpoint again with `pixrt export`",
            ) from None

    def to_json(self) -> str:
        """The manifest as JSON text, the form `parse_manifest` reads."""
        said = dataclasses.asdict(self)
        said["source"]["loras"] = [lora.facts() for lora in self.source.loras]
        # So that an older pixrt, which does not know a key, reads what has none of it.
        for name in ("examples", "instructions", "quantised", "deep_cache"):
            if not said[name]:
                del said[name]
        if not self.defaults.ladder:
            del said["defaults"]["ladder"]
        if not self.source.embeddings:
            del said["source"]["embeddings"]
        for tokenizer in said["tokenizers"]:
            if not tokenizer["added"]:
                del tokenizer["added"]
        return json.dumps(said, indent=1, ensure_ascii=False) + "\n"


# The tensor names of every bundle, inputs and outputs in order: optimum's and diffusers' where they have any.
TENSORS = {
    Component.TEXT_ENCODER: (("input_ids", "embeddings"), ("last_hidden_state",)),
    Component.UNET: (("sample", "timestep", "encoder_hidden_states"), ("out_sample",)),
    Component.UNET_SHALLOW: (("sample", "timestep", "encoder_hidden_states", "deep_feature"), ("out_sample",)),
    Component.VAE_ENCODER: (("sample",), ("latent_sample",)),
    Component.VAE_DECODER: (("latent_sample",), ("sample",)),
    Component.VAE_DECODER_FP32: (("latent_sample",), ("sample",)),
    Component.UNET_STEP: (
        (
            *("latents", "history", "noise", "source", "context", "row_to_latents", "row_to_source"),
            *("branch_rows", "table", "at", "where", "anchor", "anchor_noise"),
        ),
        ("next_latents", "next_history", "denoised"),
    ),
}


# Dimensions of each of those tensors.
_RANKS = {
    **{"row_to_latents": 1, "row_to_source": 1, "at": 1, "timestep": 1, "input_ids": 2, "branch_rows": 2},
    **{"embeddings": 2},
    **{"last_hidden_state": 3, "encoder_hidden_states": 3, "context": 3, "table": 3, "history": 5, "next_history": 5},
    **{"sample": 4, "out_sample": 4, "latent_sample": 4, "latents": 4, "next_latents": 4, "noise": 4, "denoised": 4},
    **{"deep_feature": 4, "source": 4, "where": 4, "anchor": 4, "anchor_noise": 4},
}
MOST_MANIFEST_BYTES = 16 << 20
_MOST_BYTES = 1 << 50
_LONGEST_NAME = 200
_MOST_ADDED = 1 << 16
_LONGEST_NOTICE = 4000
_MOST_SIZE = (1 << 31) - 1  # of a dimension: what the libraries count in
_MOST_RANK = 8
_SHA256 = re.compile(r"[0-9a-f]{64}")


def parse_manifest(text: str | bytes, where: str) -> Manifest:
    """Read a manifest strictly; `where` names it in errors.

    Raises BundleTooNew for a newer schema, BundleError for text that is not JSON, a missing, unknown or mistyped key.
    """
    try:
        value = parse_json(text, finite=False)  # what is not finite is told with its key
    except Malformed as error:
        raise unusable(where, str(error)) from error
    if not isinstance(value, dict):
        raise unusable(where, "it is not a JSON object")
    schema = value.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise unusable(where, f"its schema is {schema!r}, not a whole number from 1")
    if schema > SCHEMA:
        raise BundleTooNew(
            f"{where} has schema {schema}, and this pixrt reads up to {SCHEMA}",
            remedy="Update pixrt, or export the checkpoint again with this version",
        )
    manifest: Manifest = decode(Manifest, value if schema == SCHEMA else _from_schema_1(value, where), where, "")
    _check(manifest, where)
    return manifest


def _from_schema_1(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A manifest of the first schema, which knew one family, as one of this schema.

    Its fused step was another graph, which nothing runs any more: the plain UNet is run in its place.
    """
    given = {name: entry for name, entry in value.items() if name not in _OF_SCHEMA_1}
    for name in _OF_SCHEMA_1:
        if name not in value:
            raise unusable(where, f"the key {name} is missing")
    step = Component.UNET_STEP.value
    components, engines = value.get("components"), value.get("engines")
    if isinstance(components, Mapping):
        given["components"] = {name: entry for name, entry in components.items() if name != step}
    if isinstance(engines, list):
        given["engines"] = [one for one in engines if not (isinstance(one, Mapping) and one.get("component") == step)]
    prediction = value["prediction_type"]
    return given | {
        "schema": SCHEMA,
        "family": "stable-diffusion",
        "prediction": "v" if prediction == "v_prediction" else prediction,
        "latents": {
            "channels": value["latent_channels"],
            "scale": value["vae_scale"],
            "scaling": value["scaling_factor"],
        },
        "tokenizers": [value["tokenizer"]],
    }


_OF_SCHEMA_1 = ("latent_channels", "vae_scale", "scaling_factor", "prediction_type", "tokenizer")


def _check(manifest: Manifest, where: str) -> None:
    positive = {
        "unet_in_channels": (manifest.unet_in_channels, 4096),
        "latents.channels": (manifest.latents.channels, 4096),
        "latents.scale": (manifest.latents.scale, 1024),
        "latents.scaling": (manifest.latents.scaling, 1e6),
        "size_multiple": (manifest.size_multiple, 4096),
        "native_resolution": (manifest.native_resolution, 1 << 16),
    }
    for name, (number, most) in positive.items():
        if not 0 < number < math.inf:
            raise unusable(where, f"{name} is {number}, which must be above 0 and finite")
        require_within(number, 0, most, where, name)
    require_bounds(manifest, where)
    require_within(manifest.latents.shift, -1e6, 1e6, where, "latents.shift")
    if not manifest.tokenizers:
        raise unusable(where, "it has no tokenizers")
    for number, tokenizer in enumerate(manifest.tokenizers):
        if tokenizer.max_length < 3:
            raise unusable(where, f"tokenizers[{number}].max_length is {tokenizer.max_length}: no room for a word")
        require_within(tokenizer.max_length, 3, 1 << 16, where, f"tokenizers[{number}].max_length")
        _check_added(tokenizer, f"tokenizers[{number}].added", where)
    for key, given in (("steps", manifest.defaults.steps), ("guidance_scale", manifest.defaults.guidance_scale)):
        require_within(given, 0, 1000, where, f"defaults.{key}")
    require_within(manifest.defaults.image_guidance_scale, 0, 1000, where, "defaults.image_guidance_scale")
    for number, rung in enumerate(manifest.defaults.ladder):
        for key in ("steps", "branch_interval", "cache_interval"):
            require_within(getattr(rung, key), 1, 1000, where, f"defaults.ladder[{number}].{key}")
    for name, text, longest in (("name", manifest.name, _LONGEST_NAME), ("notice", manifest.notice, _LONGEST_NOTICE)):
        if len(text) > longest:
            raise unusable(where, f"{name} has {len(text)} characters, and {longest} are allowed")
    _check_components(manifest, where)
    if len(manifest.preview) != manifest.latents.channels + 1 or any(len(row) != 3 for row in manifest.preview):
        raise unusable(where, f"preview must have {manifest.latents.channels} + 1 rows of 3 numbers")
    if fault := fault_of_examples(manifest.examples) or fault_of_instructions(manifest.instructions):
        raise unusable(where, fault)
    _check_engines(manifest.engines, where)
    _check_files(manifest, where)


def _check_added(tokenizer: TokenizerSpec, key: str, where: str) -> None:
    require_within(len(tokenizer.added), 0, _MOST_ADDED, where, f"the length of {key}")
    for token in tokenizer.added:
        if not token.content.strip() or len(token.content) > _LONGEST_NAME:
            raise unusable(where, f"{key} has {token.content!r:.60}, which is no text to be found")
        if not 0 < len(token.ids) <= tokenizer.max_length:
            raise unusable(where, f"{key} has {token.content!r:.60} with {len(token.ids)} ids")
        for each in token.ids:
            require_within(each, 0, _MOST_SIZE, where, f"an id of {token.content!r:.60} in {key}")


def _check_components(manifest: Manifest, where: str) -> None:
    for name in manifest.components:
        if name not in set(Component):
            raise unusable(where, f"the component {name!r:.60} is none of {', '.join(Component)}")
    tensors = dict(TENSORS)
    if manifest.unet_in_channels == manifest.latents.channels:  # the network takes no source
        inputs, outputs = TENSORS[Component.UNET_STEP]
        tensors[Component.UNET_STEP] = tuple(n for n in inputs if n not in ("source", "row_to_source")), outputs
    if manifest.deep_cache is not None:
        tensors[Component.UNET] = TENSORS[Component.UNET][0], ("out_sample", "deep_feature")
        for key, given in dataclasses.asdict(manifest.deep_cache).items():
            require_within(given, 0 if key == "cache_branch_id" else 1, 4096, where, f"deep_cache.{key}")
    if (Component.UNET_SHALLOW in manifest.components) != (manifest.deep_cache is not None):
        raise unusable(where, f"of {Component.UNET_SHALLOW} and deep_cache it has one without the other")
    encoder = manifest.components.get(Component.TEXT_ENCODER)
    if encoder is not None and len(encoder.inputs) == 1:  # of a version that could not be given embeddings
        tensors[Component.TEXT_ENCODER] = ("input_ids",), ("last_hidden_state",)
    for key, expected in tensors.items():
        component = manifest.components.get(key)
        if component is None:
            continue
        given = tuple(tensor.name for tensor in component.inputs), tuple(tensor.name for tensor in component.outputs)
        if given != expected:
            raise unusable(where, f"{key} has the tensors {given}, which must be {expected}")
        for tensor in (*component.inputs, *component.outputs):
            if len(tensor.shape) != _RANKS[tensor.name]:
                rank = f"{len(tensor.shape)} dimensions, which must be {_RANKS[tensor.name]}"
                raise unusable(where, f"{tensor.name} of {key} has {rank}")
            _check_tensor(tensor, key, where)
        if not component.file.endswith(".onnx"):  # by other endings libraries read other formats
            raise unusable(where, f"the file {component.file!r:.200} of {key} is no .onnx file")


def _check_tensor(tensor: TensorSpec, owner: str, where: str) -> None:
    if len(tensor.shape) > _MOST_RANK:
        raise unusable(where, f"{tensor.name} of {owner} has {len(tensor.shape)} dimensions, more than {_MOST_RANK}")
    for size in tensor.shape:
        if isinstance(size, int) and not 0 < size <= _MOST_SIZE:
            raise unusable(where, f"{tensor.name} of {owner} has a dimension of {size}")


def _check_engines(engines: Sequence[EngineSpec], where: str) -> None:
    for engine in engines:
        if not 0 <= engine.bytes <= _MOST_BYTES or len(engine.file) > _LONGEST_NAME:
            raise unusable(
                where, f"the engine {engine.file[:60]!r} of {engine.bytes} bytes is none that `pixrt build` makes"
            )
        for tensor in (*engine.inputs, *engine.outputs):
            _check_tensor(tensor, engine.file, where)
        for sizes in (sizes for profile in engine.profiles for sizes in profile.inputs.values()):
            if not len(sizes.min) == len(sizes.opt) == len(sizes.max) <= _MOST_RANK:
                raise unusable(where, f"{engine.file} has a range of shapes with unequal lengths: {sizes}")
            if not all(0 < size <= _MOST_SIZE for size in (*sizes.min, *sizes.opt, *sizes.max)):
                raise unusable(where, f"{engine.file} has a range of shapes that cannot be: {sizes}")


def _check_files(manifest: Manifest, where: str) -> None:
    named = {spec.file for spec in manifest.components.values()}
    named |= {file for tokenizer in manifest.tokenizers for file in (tokenizer.vocab, tokenizer.merges)}
    for file in sorted(named - manifest.files.keys()):
        raise unusable(where, f"{file} is used but not listed in files")
    for file in manifest.files:
        # A path that leaves the folder would let a manifest read anything on the machine.
        if file.startswith("/") or "\\" in file or ":" in file or {"", ".", ".."} & set(file.split("/")):
            raise unusable(where, f"the file name {file!r} leaves the bundle's folder, or is no plain path")
    for file, spec in manifest.files.items():
        require_within(spec.bytes, 0, _MOST_BYTES, where, f"files.{file}.bytes")
        if not _SHA256.fullmatch(spec.sha256):
            raise unusable(where, f"files.{file}.sha256 is {spec.sha256!r:.80}, which is no SHA-256")
    if not _SHA256.fullmatch(manifest.source.sha256):  # it names a folder of the user's cache
        raise unusable(where, f"source.sha256 is {manifest.source.sha256!r:.80}, which is no SHA-256")
