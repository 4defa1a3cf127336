"""What the command line prints: results to standard output, everything else to standard error.

A line is printed as it is: no markup, no emoji codes, no colours of somebody's file name.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

results = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
_endless = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=10_000)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(line: object) -> None:
    """One line of results. A reader that has gone away does not stop the work: the rest is not printed."""
    try:
        print(_plain(str(line)), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def cut(text: object, most: int = 2000) -> str:
    """A text of somebody else's for people, of bounded length."""
    line = str(text)
    return line if len(line) <= most else f"{line[:most]}... ({len(line)} characters)"


def warn(message: str) -> None:
    """One line on standard error."""
    _tell(f"note: {cut(message, 4000)}")


def fail(message: str) -> None:
    """The one line that says why a command failed, on standard error."""
    _tell(f"error: {message}")


def _tell(line: str) -> None:
    if sys.stderr is not None:  # else it would be printed among the results
        with suppress(OSError):
            print(_plain(line), file=sys.stderr, flush=True)


def add_row(table: Table, *cells: object) -> None:
    """A row of plain texts; long ones are folded, never cut."""
    table.add_row(*(Text(_plain(str(cell)), overflow="fold") for cell in cells))


def print_table(table: Table) -> None:
    """A table of results; what is no terminal has no width, and a program that reads it wants every row in one line."""
    (results if results.is_terminal else _endless).print(table)


def facts_table(facts: Sequence[tuple[str, object]]) -> Table:
    """Names and facts in two columns."""
    table = Table(box=None, show_header=False)
    for name, fact in facts:
        add_row(table, name, fact)
    return table


@contextmanager
def progress(what: str, *, hidden: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where that is a terminal and it is not to be hidden."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=hidden or not errors.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain(text: str) -> str:
    """Control characters spelt out: a file name or a picture's metadata must not steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
