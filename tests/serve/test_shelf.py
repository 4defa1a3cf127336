"""How long a ticket is kept, and how much of them."""

from dataclasses import replace

import pytest

from pixrt.serve.problems import Problem
from pixrt.serve.shelf import Shelf
from pixrt.serve.tickets import Output, Prediction, Result, State, Ticket
from shifts import CLIENT, asks

MIB = 1 << 20


def ticket(id: str, *, ended: float | None = 0.0, result: int = 0, previews: int = 0, text: int = 0) -> Ticket:
    """One that has ended then, with so many bytes of a result, of previews, and so many characters of a prompt."""
    made = Ticket(id, replace(asks("x" * text), image=None), CLIENT, Prediction(0, 0), lambda _: None)
    if previews:
        made.tell("preview", {}, bytes(previews))
    if ended is not None:
        made.result = Result(bytes(result), Output(), (8, 8), {}, {}, "null")
        made.state, made.ended = State.DONE, ended
    return made


def kept(shelf: Shelf) -> list[str]:
    return [each.id for each in shelf.of(CLIENT)]


def test_what_has_been_there_long_enough_goes() -> None:
    shelf = Shelf(10, MIB)
    for id, ended in (("a", 0.0), ("b", 5.0), ("c", None)):
        shelf.add(ticket(id, ended=ended))
    shelf.tidy(10.0)
    assert kept(shelf) == ["a", "b", "c"]
    shelf.tidy(10.1)
    assert kept(shelf) == ["b", "c"]
    shelf.tidy(1e9)
    assert kept(shelf) == ["c"]


@pytest.mark.parametrize("what", ["result", "previews", "text"])
def test_the_oldest_go_if_it_is_too_much(what: str) -> None:
    shelf = Shelf(10, MIB)
    size = (MIB // 5) // (4 if what == "text" else 1)  # a character may take four bytes
    for number in range(5):
        shelf.add(ticket(str(number), **{what: size}))  # type: ignore[arg-type]
    shelf.add(ticket("going", ended=None, text=MIB))
    assert shelf.bytes > MIB
    shelf.tidy(1.0)
    assert kept(shelf) == ["1", "2", "3", "4", "going"]
    assert shelf.bytes <= MIB


def test_many_small_ones_are_bounded_too() -> None:
    shelf = Shelf(10, MIB)
    for number in range(1000):
        shelf.add(ticket(str(number)))
    shelf.tidy(1.0)
    assert len(shelf) == MIB // 4096
    assert kept(shelf)[-1] == "999"


def test_another_clients_is_as_good_as_none() -> None:
    shelf = Shelf(10, MIB)
    shelf.add(ticket("a"))
    assert shelf.find("a", CLIENT).id == "a"
    for id, client in (("a", "key:other"), ("b", CLIENT)):
        with pytest.raises(Problem) as raised:
            shelf.find(id, client)
        assert (raised.value.status, raised.value.code) == (404, "job_not_found")
    assert shelf.of("key:other") == []
