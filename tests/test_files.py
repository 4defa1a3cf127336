"""Atomic writing: the old file, no file, or the whole new one."""

import errno
import os
from pathlib import Path

import pytest

from pixrt.errors import OutputError
from pixrt.files import atomic_write


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"old")
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as file:
        file.write(b"half" + "\ud800".encode())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_full_disk_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"), atomic_write(tmp_path / "it") as file:
        file.write(b"x")
    assert not list(tmp_path.iterdir())


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "it") as file:
            file.write(b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o640


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    with pytest.raises(OutputError), atomic_write(tmp_path / "it") as file:
        file.write(b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
