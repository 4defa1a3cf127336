"""A row of the table: what a trusted system shows, what this server shows, and whether that is as good."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was found. `is_timed`: how fast something was, which a busy machine can spoil."""

    said: str
    is_right: bool
    is_timed: bool = False


@dataclass(frozen=True)
class Row:
    """What was found about a concern; nothing if other tests look at it, which `command` runs."""

    concern: str
    trusted: str
    findings: tuple[Finding, ...] = ()
    command: str = ""

    @property
    def has_passed(self) -> bool:
        """Whether all that was found is right."""
        return all(finding.is_right for finding in self.findings)


def timed(said: str, is_right: bool) -> Finding:
    """How fast something was."""
    return Finding(said, is_right, is_timed=True)
