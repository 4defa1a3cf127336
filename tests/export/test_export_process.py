"""`pixrt export` killed twenty times: at every moment the old bundle or the new one is there, whole."""

from pathlib import Path

import pytest

from exported import Exports
from kept import writable_copy
from kills import finish, kills, remains
from pixrt.bundles.store import open_bundle

pytestmark = [pytest.mark.torch, pytest.mark.slow]


def test_twenty_kills(exports: Exports, tmp_path: Path) -> None:
    checkpoint = exports.checkpoint("sd1")
    words = ("export", checkpoint, "--precision", "fp32", "--overwrite")
    whole_s = finish(*words, "-o", tmp_path / "whole", "--name", "new")
    output = writable_copy(exports.bundle("sd1", "fp32"), tmp_path / "place" / "bundle")
    names = {"new", open_bundle(output).manifest.name}
    for _ in kills(whole_s, *words, "-o", output, "--name", "new"):
        assert open_bundle(output, verify=True).manifest.name in names
        assert len(remains(tmp_path / "place")) <= 2
    finish(*words, "-o", output, "--name", "new")
    assert open_bundle(output, verify=True).manifest.name == "new"
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["bundle"]
    assert not remains(tmp_path)
