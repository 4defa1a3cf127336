"""Real clients against a real server: each in an environment of its own, every picture against the single edit.

The environments are kept in pytest's cache; the first run installs them. All six: benchmarks/serving_clients.py.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from clients.calls import BLUE, SCENE, Same, Server
from pixrt import Editor
from serving_clients import CLIENTS, environment, judge, run, serving


@pytest.fixture(scope="module")
def editor() -> Iterator[Editor]:
    with Editor("shapes") as editor:
        yield editor


@pytest.fixture(scope="module")
def server(editor: Editor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server"), editor) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openai", "webuiapi", "tritonclient"])
def test_a_client_works(name: str, server: Server, editor: Editor, request: pytest.FixtureRequest) -> None:
    python = environment(name, request.config.cache.mkdir("clients"))
    outcomes = run(name, python, server, editor)
    assert [f"{each.call}: {each.wrong}" for each in outcomes if each.wrong] == []
    assert len(outcomes) > 1
    assert sum(each.pictures for each in outcomes) >= 5


def test_the_judge_sees_a_picture_that_is_not_the_single_edit(editor: Editor, tmp_path: Path) -> None:
    edit = editor.edit(SCENE, BLUE, steps=2, seed=5).image
    edit.save(right := tmp_path / "right.png")
    edit.putpixel((3, 3), (1, 2, 3))
    edit.save(wrong := tmp_path / "wrong.png")
    pictures = [{**asdict(Same(b"", parameters={"steps": 2, "seed": 5})), "picture": path} for path in (right, wrong)]
    assert judge({"call": "edit", "pictures": pictures[:1], "error": ""}, editor).wrong == ""
    assert "picture 1 differs" in judge({"call": "edit", "pictures": pictures, "error": ""}, editor).wrong
    assert judge({"call": "edit", "pictures": [], "error": "Traceback\nValueError: x"}, editor).wrong == "ValueError: x"


def test_every_client_has_a_script() -> None:
    scripts = Path(__file__).parent.parent.parent / "benchmarks" / "clients"
    assert {client.script for client in CLIENTS.values()} == {path.name for path in scripts.glob("call_*.py")}
