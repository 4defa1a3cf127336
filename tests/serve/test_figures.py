"""The table of figures, its shorter way: what must hold on any machine. How fast things were is not looked at here."""

import pytest

from serving_figures import ROWS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_table(name: str) -> None:
    row = ROWS[name](True)
    assert row.findings
    assert [each.said for each in row.findings if not (each.is_right or each.is_timed)] == []
