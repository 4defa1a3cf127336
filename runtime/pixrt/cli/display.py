"""What the command line shows with rich: tables, and bars and spinners on a terminal. Lines are `console`'s.

Not imported where nothing of it is shown. No markup, no emoji codes, no colours of somebody's file name.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pixrt.cli.console import plain

results = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
_endless = Console(soft_wrap=True, highlight=False, markup=False, emoji=False, width=10_000)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)


def add_row(table: Table, *cells: object) -> None:
    """A row of plain texts; long ones are folded, never cut."""
    table.add_row(*(Text(plain(str(cell)), overflow="fold") for cell in cells))


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
