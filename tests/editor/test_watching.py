"""What a person sees while an edit runs: a bar, and lines in Python's log, without anything of pictures or texts."""

import io
import logging

import pytest
import rich
from PIL import Image
from rich.console import Console

from pixrt import Editor, ProgressBar


def test_a_bar_for_every_picture(editor: Editor, scene: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(rich, "_console", Console(file=shown, force_terminal=True, width=80))
    bar = ProgressBar()
    for _ in range(2):  # it begins anew with every call
        editor.edit([scene, scene], "invert the colors", steps=2, seed=[1, 2], on_step=bar)
        assert bar._progress is None
    said = shown.getvalue()
    assert "picture 1" in said
    assert "picture 2" in said
    assert "100%" in said


def test_the_log_says_nothing_of_pictures(scene: Image.Image, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pixrt"), Editor("shapes", backend="null") as editor:
        editor.edit(scene, "a secret", steps=1)
    lines = [record.getMessage() for record in caplog.records if record.name == "pixrt"]
    assert lines[0].startswith(f"opened {editor.manifest.name} on null")
    assert lines[1].startswith(f"picture 0: {scene.width} x {scene.height} in ")
    assert "secret" not in caplog.text
