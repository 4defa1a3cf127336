"""A model repository of Triton's, out of a bundle: its configuration, its model of the Python backend, its warm-up.

Must not import PyTorch.
"""

import io
import re
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

from pixrt.bundles.manifest import Manifest
from pixrt.bundles.store import open_bundle
from pixrt.errors import OptionError
from pixrt.files import exists_already
from pixrt.folders import atomic_folder

MOST_QUEUED = 64  # as many as `pixrt serve` lets wait
_BATCH = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a folder's, and a text's in the configuration
_LENGTH = struct.Struct("<I")  # before every element of a tensor of texts


def require_free(repository: Path, name: str, *, overwrite: bool) -> None:
    """Raise OutputError if the repository has a model of this name that is to stay, OptionError for an odd name."""
    if not _NAME.fullmatch(name):
        remedy = "Give it another --name, of letters, digits, dots, dashes and underscores"
        raise OptionError(f"Triton has no model called {name!r:.60}", remedy=remedy, option="name")
    if (repository / name).exists() and not overwrite:
        raise exists_already(repository / name)


def write_repository(bundle: Path, repository: Path, *, overwrite: bool = False) -> Path:
    """Put a bundle's model, with a copy of the bundle, into a repository. Raises BundleError, OutputError.

    Returns its folder. Triton's Python needs pixrt: `pip install "pixrt[cpu]"`, or what the device wants.
    """
    opened = open_bundle(bundle)
    manifest = opened.manifest
    require_free(repository, manifest.name, overwrite=overwrite)
    with atomic_folder(repository / manifest.name, overwrite=overwrite) as folder:
        version = folder / "1"
        shutil.copytree(opened.folder, version / "bundle")
        shutil.copyfile(Path(__file__).with_name("triton_model.py"), version / "model.py")
        (folder / "warmup").mkdir()
        inputs = _warm_up(manifest)
        for name, data in inputs.items():
            (folder / "warmup" / name).write_bytes(_LENGTH.pack(len(data)) + data)
        (folder / "config.pbtxt").write_text(_config(manifest, inputs), encoding="utf-8")
    return repository / manifest.name


def _warm_up(manifest: Manifest) -> dict[str, bytes]:
    """The tensors of a request that the bundle can do."""
    from PIL import Image

    side, file, mask = manifest.native_resolution, io.BytesIO(), io.BytesIO()
    Image.new("RGB", (side, side), (128, 128, 128)).save(file, "PNG")
    Image.new("L", (side, side), 255).save(mask, "PNG")
    inputs = {"INSTRUCTION": b"a grey picture"}
    if manifest.task != "generate":
        inputs["IMAGE"] = file.getvalue()
    if manifest.task == "inpaint":
        inputs["MASK"] = mask.getvalue()
    return inputs


def _config(manifest: Manifest, warm: Mapping[str, bytes]) -> str:
    """The model's configuration, in protobuf's text format."""

    def tensor(name: str, kind: str = "TYPE_STRING", rest: str = "") -> str:
        return f'  {{ name: "{name}" data_type: {kind} dims: [ 1 ]{rest} }}'

    optional = " optional: true"  # the model says which its task wants
    inputs = [tensor("INSTRUCTION"), *(tensor(name, rest=optional) for name in ("IMAGE", "MASK", "STYLE"))]
    outputs = [tensor("IMAGE"), tensor("SEED", "TYPE_INT64"), tensor("INFO")]
    warming = "\n".join(
        f'  inputs {{ key: "{name}" value {{ data_type: TYPE_STRING dims: [ 1 ] input_data_file: "{name}" }} }}'
        for name in warm
    )
    return f"""# Written by pixrt export --triton. pixrt opens its device itself: KIND_CPU only says where tensors are.
name: "{manifest.name}"
backend: "python"
max_batch_size: {_BATCH}
input [
{_joined(inputs)}
]
output [
{_joined(outputs)}
]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
dynamic_batching {{
  default_queue_policy {{ max_queue_size: {MOST_QUEUED} timeout_action: REJECT allow_timeout_override: true }}
}}
model_warmup [ {{
  name: "warmup"
  batch_size: 1
{warming}
}} ]
parameters {{ key: "backend" value {{ string_value: "auto" }} }}
"""


def _joined(lines: list[str]) -> str:
    return ",\n".join(lines)
