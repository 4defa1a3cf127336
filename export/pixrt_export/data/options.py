"""How a training set on disk is read. Light: imports no numpy."""

from dataclasses import dataclass

from pixrt.options.fields import option, validate


@dataclass(frozen=True, slots=True)
class SetOptions:
    """Which columns of its index hold what, if it has columns, and whether samples without their pictures will do."""

    text_column: str = option(
        "", "Column of the instruction; found by its usual names when not given.", kind="text", group="Data"
    )
    source_column: str = option(
        "", "Column of the picture before; found likewise when not given.", kind="text", group="Data"
    )
    target_column: str = option(
        "", "Column of the picture after; found likewise when not given.", kind="text", group="Data"
    )
    skip_missing: bool = option(
        False, "Leave out samples whose pictures are not there, and say how many.", kind="flag", group="Data"
    )

    def __post_init__(self) -> None:
        validate(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are said."""
        return tuple(filter(None, (self.text_column, self.source_column, self.target_column)))


ANY = SetOptions()
"""The usual names, and every picture."""
