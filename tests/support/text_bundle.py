"""A bundle that says it is a text-to-image model, for the null backend: that computes nothing, and opens no network."""

import json
import shutil
from pathlib import Path

from pixrt.bundles.manifest import MANIFEST_NAME
from pixrt.bundles.store import BUILT_IN


def text_bundle(folder: Path) -> Path:
    """The bundle `shapes` with a UNet of four channels: it can generate, img2img, inpaint and style, and not edit."""
    folder.mkdir(parents=True)
    for path in (BUILT_IN / "shapes").iterdir():
        if path.name != MANIFEST_NAME:
            shutil.copy(path, folder)  # links are refused: they could lead anywhere
    manifest = json.loads((BUILT_IN / "shapes" / MANIFEST_NAME).read_text())
    for each in manifest["components"]["unet"]["inputs"]:
        if each["name"] == "sample":
            each["shape"][1] = 4
    manifest |= {"name": "text", "unet_in_channels": 4}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))
    return folder
