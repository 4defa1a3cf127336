"""Writing: the old file, no file, or the whole new one; where to, and what is left when a writer is killed."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pixrt.errors import OutputError
from pixrt.files import atomic_write, remove_leftovers
from pixrt.folders import atomic_folder
from shapes import files


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


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".pixrt-*")]


class TestTargets:
    """What a writer may go to, and what becomes of it."""

    def test_links_stay_links(self, tmp_path: Path) -> None:
        (tmp_path / "far").mkdir()
        (tmp_path / "far" / "it").write_bytes(b"old")
        (tmp_path / "near").symlink_to("far/it")
        (tmp_path / "link").symlink_to("near")
        with atomic_write(tmp_path / "link") as file:
            file.write(b"new")
            assert leftovers(tmp_path / "far")  # the temporary file is where the link leads
        assert (tmp_path / "far" / "it").read_bytes() == b"new"
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "near").is_symlink()

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o664])
    def test_permissions_stay(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "it"
        path.write_bytes(b"old")
        path.chmod(mode)
        with atomic_write(path) as file:
            file.write(b"new")
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", mode)

    def test_only_regular_files(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "device").symlink_to("/dev/null")
        for name, message in (("pipe", "a pipe"), ("loop", "loop of links"), ("device", "or a device")):
            with pytest.raises(OutputError, match=message), atomic_write(tmp_path / name) as file:
                file.write(b"x")
        assert not leftovers(tmp_path)

    @pytest.mark.parametrize("late", [False, True])
    @pytest.mark.parametrize("has_call", [False, True])
    def test_what_exists_is_refused(
        self, tmp_path: Path, late: bool, has_call: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also what comes while it is written."""
        if not has_call:
            monkeypatch.setattr("pixrt.files.rename_if", lambda *_: False)
        path = tmp_path / "it"

        def write() -> None:
            with atomic_write(path, overwrite=False) as file:
                file.write(b"x")
                path.write_bytes(b"mine")

        if not late:
            path.write_bytes(b"mine")
        with pytest.raises(OutputError, match="exists already"):
            write()
        assert path.read_bytes() == b"mine"
        assert not leftovers(tmp_path)
        with atomic_write(tmp_path / "other", overwrite=False) as file:
            file.write(b"x")
        assert (tmp_path / "other").read_bytes() == b"x"

    def test_folders_above_are_made_and_the_name_is_synced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[bool] = []
        fsync = os.fsync

        def spy(fd: int) -> None:
            synced.append(stat.S_ISDIR(os.fstat(fd).st_mode))
            fsync(fd)

        monkeypatch.setattr(os, "fsync", spy)
        with atomic_write(tmp_path / "a" / "b" / "it") as file:
            file.write(b"x")
        assert synced == [False, True]


class TestLeftovers:
    """What killed writers left goes with the next one; what is being written stays."""

    KILLED = """
import os, sys
from pathlib import Path
from pixrt.files import atomic_write
from pixrt.folders import atomic_folder
with atomic_write(Path("it")) as file, atomic_folder(Path("folder")) as folder:
    file.write(b"half")
    (folder / "half").write_bytes(b"half")
    os.kill(os.getpid(), 9)
"""

    def test_of_killed_ones(self, tmp_path: Path) -> None:
        for _ in range(3):
            subprocess.run([sys.executable, "-c", self.KILLED], cwd=tmp_path, check=False)
            assert len(leftovers(tmp_path)) == 2  # its own: those of the one before are gone
        with atomic_write(tmp_path / "it") as file:
            file.write(b"x")
        assert files(tmp_path) == {"it"}

    def test_what_is_being_written_stays(self, tmp_path: Path) -> None:
        (tmp_path / ".pixrt-0123456789abcdef.tmp").write_bytes(b"of a version without locks")
        (tmp_path / ".pixrt-not ours").write_bytes(b"x")
        with atomic_write(tmp_path / "it") as file, atomic_folder(tmp_path / "folder") as folder:
            (folder / "x").write_bytes(b"x")
            code = "import sys; from pathlib import Path; from pixrt.files import remove_leftovers"
            code += "; remove_leftovers(Path(sys.argv[1]), deep=True)"
            subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
            file.write(b"whole")
        assert (tmp_path / "it").read_bytes() == b"whole"
        assert files(tmp_path) == {"it", "folder", ".pixrt-not ours"}

    def test_writers_and_removers_at_once(self, tmp_path: Path) -> None:
        """Nobody takes a file that was just made for a leftover."""
        over = threading.Event()

        def sweep() -> None:
            while not over.is_set():
                remove_leftovers(tmp_path)

        removers = [threading.Thread(target=sweep) for _ in range(2)]
        for thread in removers:
            thread.start()
        try:
            for number in range(150):
                with atomic_write(tmp_path / f"{number}") as file:
                    file.write(b"x")
                with atomic_folder(tmp_path / f"folder-{number}") as folder:
                    (folder / "x").write_bytes(b"x")
        finally:
            over.set()
            for thread in removers:
                thread.join()
        assert len(files(tmp_path)) == 300


class TestFolders:
    """The old folder, none, or the whole new one."""

    @pytest.mark.parametrize("has_call", [False, True])
    def test_one_is_replaced(self, tmp_path: Path, has_call: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        if not has_call:
            monkeypatch.setattr("pixrt.folders.rename_if", lambda *_: False)
        (tmp_path / "real").mkdir(mode=0o700)
        (tmp_path / "real" / "old").write_bytes(b"old")
        (tmp_path / "link").symlink_to("real")
        with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "link") as folder:
            raise ZeroDivisionError
        with pytest.raises(OutputError, match="exists"), atomic_folder(tmp_path / "link", overwrite=False) as folder:
            (folder / "new").write_bytes(b"new")
        assert files(tmp_path / "real") == {"old"}
        with atomic_folder(tmp_path / "link") as folder:
            (folder / "new").write_bytes(b"new")
        assert files(tmp_path) == {"real", "link"}
        assert files(tmp_path / "real") == {"new"}
        assert (tmp_path / "real").stat().st_mode & 0o777 == 0o700

    def test_at_every_moment_one_is_there(self, tmp_path: Path) -> None:
        """A reader looks all the time, while one takes the other's place."""
        target, missing, over = tmp_path / "it", [], threading.Event()
        with atomic_folder(target) as folder:
            (folder / "whole").write_bytes(b"x")

        def look() -> None:
            while not over.is_set():
                missing.extend([1] * (not (target / "whole").exists()))

        reader = threading.Thread(target=look)
        reader.start()
        for _ in range(50):
            with atomic_folder(target) as folder:
                (folder / "whole").write_bytes(b"x")
        over.set()
        reader.join()
        assert not missing

    def test_what_a_kill_between_two_renames_left_is_put_back(self, tmp_path: Path) -> None:
        """Only where no call exchanges two folders."""
        (tmp_path / ".it.pixrt-old").mkdir()
        (tmp_path / ".it.pixrt-old" / "old").write_bytes(b"old")
        with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "it"):
            raise ZeroDivisionError
        assert files(tmp_path) == {"it"}
        assert files(tmp_path / "it") == {"old"}
