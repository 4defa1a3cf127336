"""Files and texts of strangers: what is read, what is refused at once and in one line, and what is never waited for."""

import json
import os
import socket
import stat
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixrt.errors import DataError, PixrtError
from pixrt.reading import (
    DEEPEST,
    Malformed,
    parse_json,
    parse_toml,
    read_json,
    read_lines,
    read_regular,
    read_text,
    read_toml,
)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**38), 10**38)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4),
)


@given(PLAIN, st.booleans())
def test_what_json_writes_is_read(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text) == value == parse_json(text.encode())


@given(st.text() | st.binary())
def test_a_text_is_read_as_json_reads_it_or_refused(text: str | bytes) -> None:
    try:
        value = parse_json(text)
    except Malformed:
        return
    assert value == json.loads(text if isinstance(text, str) else text.decode().removeprefix("\ufeff"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1, 2,]", "not JSON"),
        ("[" * 100_000, "nested"),
        ('{"a":' * 100_000, "nested"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested"),
        ("1" * 400, "a number of 400 characters"),
        ("0." + "1" * 400, "a number of 402 characters"),
        ("1" * 100_000, "a number of 100000 characters"),
        ("[1e400]", "no finite number"),
        ("[-1e400]", "no finite number"),
        ("[NaN]", "NaN"),
        ("[Infinity]", "Infinity"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' twice"),
        (r'["\ud800"]', "half of a surrogate pair"),
        (r'{"\udfff": 1}', "half of a surrogate pair"),
        (b"\xff\xfe", "UTF-8"),
        (b'["\xed\xa0\x80"]', "UTF-8"),
        (json.dumps({"a": 1}).encode("utf-16"), "UTF-8"),
        ("[" + "[]," * 1_000_000 + "[]]", "values"),
    ],
)
def test_json_is_refused(text: str | bytes, words: str) -> None:
    started = time.monotonic()
    with pytest.raises(Malformed) as caught:
        parse_json(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert time.monotonic() - started < 10


def test_brackets_and_commas_in_strings_do_not_count() -> None:
    value = {"a": "[{" * 1000, "b": '\\"[' * 1000, "c": "," * 2_000_000}
    assert parse_json(json.dumps(value)) == value
    assert parse_json(b"\xef\xbb\xbf[1]") == [1]
    assert parse_json(r'["\ud83d\ude00"]') == ["😀"]
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)[0] is not None
    assert parse_json("[NaN, 1e999]", finite=False)[1] == float("inf")


@pytest.mark.parametrize("text", ['"' + '\\"' * 1_000_000, '"' * 1_000_001, '["' + "a" * 1_000_000, "\\" * 1_000_000])
def test_quotes_that_do_not_close_take_no_time(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(Malformed):
        parse_json(text)
    assert time.monotonic() - started < 10


def test_many_equal_names_take_no_time() -> None:
    started = time.monotonic()
    with pytest.raises(Malformed, match="'299999' twice"):
        parse_json("{" + ",".join(f'"{i}":1' for i in range(300_000)) + ',"299999":2}')
    assert time.monotonic() - started < 20


def test_toml_is_read() -> None:
    assert parse_toml('a = 1\n[b]\nc = [1.5, "x"]\nd = 2020-01-01') == {
        "a": 1,
        "b": {"c": [1.5, "x"], "d": __import__("datetime").date(2020, 1, 1)},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", "not TOML"),
        ("a = " + "[" * 100_000, "nested"),
        (".".join("a" * 100_000) + " = 1", "dots"),
        ("a = " + "1" * 400, "a number of"),
        ("a = " + "1" * 5000, "not TOML"),
        ("a = nan", "no finite number"),
        ("a = [inf]", "no finite number"),
        ("a = 1\na = 2", "not TOML"),
        (b"a = \xff", "UTF-8"),
        ("#" * 300_000, "characters"),
    ],
)
def test_toml_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        parse_toml(text)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def _to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


READERS: list[Callable[[Path], object]] = [
    lambda path: read_regular(path, 100, _refuse),
    lambda path: read_text(path, 100, _refuse),
    lambda path: list(read_lines(path, 100, _refuse)),
    lambda path: read_json(path, 100, _refuse),
    lambda path: read_toml(path, _refuse),
]


def _refuse(problem: str) -> DataError:
    return DataError(problem, remedy="Mend it")


@pytest.mark.skipif(os.name != "posix", reason="files of POSIX")
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_pipe, "a pipe"),
        (_socket, "a socket"),
        (Path.mkdir, "a folder"),
        (_to_device, "a device"),
        (_to_pipe, "a pipe"),
        (_circle, "cannot be read"),
        (lambda path: None, "No such file"),
    ],
)
def test_what_is_no_file_is_refused_at_once(
    read: Callable[[Path], object], make: Callable[[Path], object], words: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    make(Path("it"))
    started = time.monotonic()
    with pytest.raises(DataError, match=words):
        read(Path("it"))
    assert time.monotonic() - started < 5


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the file and its opening."""
    path = tmp_path / "it"
    path.write_bytes(b"text")
    looked = Path.stat

    def swap(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        status = looked(self, follow_symlinks=follow_symlinks)
        self.unlink()
        os.mkfifo(self)
        return status

    monkeypatch.setattr(Path, "stat", swap)
    with pytest.raises(PixrtError, match="a pipe"):
        read_regular(path, 100)


def test_links_are_followed_unless_they_must_not_be(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"text")
    (tmp_path / "link").symlink_to("real")
    assert read_regular(tmp_path / "link", 4) == b"text"
    with pytest.raises(PixrtError, match="a symbolic link"):
        read_regular(tmp_path / "link", 4, links=False)


def test_bounds(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"one\ntwo\n")
    assert read_regular(path, 8) == b"one\ntwo\n"
    assert list(read_lines(path, 4)) == [b"one\n", b"two\n"]
    with pytest.raises(PixrtError, match="more than 7 bytes"):
        read_regular(path, 7)
    with pytest.raises(PixrtError, match=r"line 1 of .* has more than 3 bytes"):
        list(read_lines(path, 3))
    os.truncate(path, 1 << 40)  # a file of holes
    with pytest.raises(PixrtError, match="more than 100 bytes"):
        read_regular(path, 100)
    assert stat.S_ISREG(path.stat().st_mode)


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    for name in ("\0", "x" * 10_000):
        with pytest.raises(PixrtError) as caught:
            read_regular(tmp_path / name, 10)
        assert len(str(caught.value)) < 500


def test_a_limit_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"text")
    tracemalloc.start()
    assert read_regular(tmp_path / "it", 1 << 40) == b"text"
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="files of Linux")
def test_a_file_that_does_not_know_its_size_is_read_whole() -> None:
    assert b"Threads:" in read_regular("/proc/self/status", 1 << 20)
    with pytest.raises(PixrtError, match="more than 10 bytes"):
        read_regular("/proc/self/status", 10)
