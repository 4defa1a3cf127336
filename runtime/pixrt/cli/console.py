"""The two consoles of the command line: results, and everything that is not a result."""

from rich.console import Console

results = Console(soft_wrap=True, highlight=False)
errors = Console(stderr=True, highlight=False)


def warn(message: str) -> None:
    """One line on standard error."""
    errors.print(f"note: {message}", markup=False, soft_wrap=True)
