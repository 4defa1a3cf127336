"""Every error goes through a process pool whole, and is one line of bounded length, whatever is in it."""

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from pixrt.errors import DataError, PixrtError, SomeFailed
from pixrt.reading import read_regular


def _all(kind: type[PixrtError]) -> Iterator[type[PixrtError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all(below)


KINDS = sorted(set(_all(PixrtError)), key=lambda kind: kind.__name__)
COPIES: list[Callable[[Any], Any]] = [
    *(lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol)) for protocol in range(6)),
    copy.copy,
    copy.deepcopy,
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_copied_whole(kind: type[PixrtError]) -> None:
    error = kind("it is wrong", remedy="Mend it", option="text")
    error.exit_code = 77
    error.add_note("a note")
    for make in COPIES:
        made = make(error)
        assert type(made) is kind
        assert (made.problem, made.remedy, made.option, made.exit_code) == ("it is wrong", "Mend it", "text", 77)
        assert (made.args, str(made), made.__notes__) == (error.args, str(error), ["a note"])


def test_some_failed_keeps_the_code_of_the_first() -> None:
    error = SomeFailed.of([DataError("one", remedy="Mend it")])
    for make in COPIES:
        assert make(error).exit_code == DataError.exit_code


def _read(path: str) -> bytes:
    return read_regular(path, 10)


def test_a_missing_file_does_not_break_a_process_pool() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for _ in range(2):
            with pytest.raises(PixrtError, match="No such file"):
                pool.submit(_read, "/nowhere/at/all").result(timeout=120)


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        ("two\nlines\tand\x0b more", "two lines and more. Mend it."),
        ("\x1b[2Jclears", "\\x1b[2Jclears. Mend it."),
        ("half \ud800", "half \\ud800. Mend it."),
        ("right \u202eto left", "right \\u202eto left. Mend it."),
        ("grün 写真", "grün 写真. Mend it."),
    ],
)
def test_an_error_is_one_line_that_can_be_printed(problem: str, shown: str) -> None:
    text = str(PixrtError(problem, remedy="Mend it"))
    assert text == shown
    text.encode()


def test_a_long_text_is_cut() -> None:
    assert len(str(PixrtError("x" * 10**6, remedy="y" * 10**6))) < 4100
