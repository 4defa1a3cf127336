"""Plans are run that this user has built here; a stranger's only with leave."""

import os
from pathlib import Path

import pytest
from test_engine_files import FIRST, Case, case  # noqa: F401  # a fixture

from pixrt.bundles import engine_owner
from pixrt.bundles.engine_files import owner_problem, read_engine
from pixrt.bundles.engine_owner import is_own, note_own
from pixrt.bundles.engine_spec import EngineSpec
from pixrt.errors import EngineError, OutputError
from pixrt.options.session import SessionOptions

SHA256 = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data" / "built-engines"
    monkeypatch.setattr(engine_owner, "_folder", lambda: folder)
    return folder


def test_what_was_noted_is_own(notes: Path) -> None:
    assert not is_own(SHA256)
    note_own(SHA256)
    note_own(SHA256)
    assert is_own(SHA256)
    assert not is_own(SHA256.replace("0", "1"))
    assert notes.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", ".", "..", "../data", "/etc/passwd", SHA256.upper(), SHA256 + "0", "\0" * 64])
def test_no_other_name_is_own(notes: Path, name: str) -> None:
    note_own(SHA256)
    assert not is_own(name)


def test_notes_of_others_do_not_count(notes: Path) -> None:
    note_own(SHA256)
    (notes / SHA256).chmod(0o666)
    assert not is_own(SHA256)
    (notes / SHA256).chmod(0o600)
    assert is_own(SHA256)
    notes.chmod(0o777)
    assert not is_own(SHA256)
    notes.chmod(0o700)
    (notes / SHA256).rename(notes / "real")
    (notes / SHA256).symlink_to("real")
    assert not is_own(SHA256)
    if os.geteuid() == 0:
        (notes / SHA256).unlink()
        note_own(SHA256)
        os.chown(notes / SHA256, 4242, -1)
        assert not is_own(SHA256)


def test_where_no_note_can_be_made(notes: Path) -> None:
    notes.parent.write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        note_own(SHA256)
    assert not is_own(SHA256)


def test_a_plan_of_a_stranger_is_not_read(case: Case) -> None:  # noqa: F811
    spec: EngineSpec = case.spec
    assert "not built by you" in (owner_problem(spec) or "")
    with pytest.raises(EngineError, match="--trust-engines"):
        read_engine(case.folder, spec, case.manifest, own_only=True)
    assert read_engine(case.folder, spec, case.manifest) == FIRST
    note_own(spec.sha256)
    assert owner_problem(spec) is None
    assert read_engine(case.folder, spec, case.manifest, own_only=True) == FIRST


def test_a_note_is_of_the_bytes(case: Case) -> None:  # noqa: F811
    """A plan that was changed with its entry is another one."""
    note_own(case.spec.sha256)
    case.plan.write_bytes(b"evil")
    case.change(sha256="1" * 64, bytes=4)
    with pytest.raises(EngineError, match="not built by you"):
        read_engine(case.folder, case.spec, case.manifest, own_only=True)


def test_leave_is_an_option() -> None:
    assert not SessionOptions().trust_engines
    assert SessionOptions(trust_engines=True).trust_engines
