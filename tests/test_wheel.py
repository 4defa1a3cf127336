"""The wheel, outside the source tree: built, unpacked elsewhere, and editing there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # `make test` runs it after the rest
ROOT = Path(__file__).parent.parent
LARGEST_MIB = 40  # the built-in models: 24 of drawn scenes, 12 of photographs
LARGEST_TREE_MIB = 64


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_what_is_in_it(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST_MIB * 2**20
    names = zipfile.ZipFile(wheel).namelist()
    models = [
        f"pixrt/models/{model}/{file}" for model in ("demo", "shapes") for file in ("manifest.json", "vocab.json")
    ]
    for name in (*models, "pixrt/py.typed"):
        assert zipfile.ZipFile(wheel).getinfo(name).file_size > 1000 or name.endswith("typed")
    static = ROOT / "runtime" / "pixrt" / "page" / "static"
    page = [path.relative_to(ROOT / "runtime").as_posix() for path in static.rglob("*") if path.is_file()]
    assert "pixrt/page/static/index.html" in page
    assert set(page) <= set(names)
    for package in ("pixrt_export/py.typed", "pixrt_engines/py.typed"):
        assert package in names
    tops = {name.split("/")[0] for name in names}
    assert tops - {"pixrt", "pixrt_export", "pixrt_engines"} == {name for name in tops if name.endswith(".dist-info")}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("METADATA"))).decode()
    core = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    wanted = {"numpy", "pillow", "tokenizers", "typer", "rich", "platformdirs", "filelock"}
    assert {line.split(": ")[1].split("<")[0].split(">")[0] for line in core} == wanted


def test_what_git_holds() -> None:
    """A built-in model stands in it once: its checkpoint is links to the bundle's files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a clone")
    names = [name for name in listed.stdout.decode().split("\0") if name]
    assert len(names) > 500
    sizes = {name: (ROOT / name).lstat().st_size for name in names if os.path.lexists(ROOT / name)}
    assert sum(sizes.values()) < LARGEST_TREE_MIB * 2**20, sorted(sizes, key=sizes.__getitem__)[-5:]


def test_it_edits_from_where_it_is_unpacked(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import pixrt, sys; assert pixrt.__file__.startswith(sys.argv[1]), pixrt.__file__\n"
        "from pixrt.cli import main; sys.argv[1:] = sys.argv[2:]; main()"
    )
    photo = ROOT / "examples" / "chelsea.jpg"
    words = ["edit", str(photo), "make it darker", "-o", "out.png", "--steps", "2"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-c", code, str(tmp_path / "site"), *words]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "out.png").is_file()
