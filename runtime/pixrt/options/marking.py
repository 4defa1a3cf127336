"""What results carry beside their pixels, and what marks them as a model's work. Must not import numpy or Pillow."""

from dataclasses import dataclass
from pathlib import Path

from pixrt.errors import OptionError
from pixrt.options.fields import option, validate

_MARKING = "Marking"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkingOptions:
    """What results carry that says how they came about. Validated on construction: OptionError."""

    metadata: bool = option(
        True,
        "Write into results how they were made: what repeats them, and --mark's words.",
        kind="flag",
        group=_MARKING,
    )
    strip_source_metadata: bool = option(
        False,
        "Results do not keep the date, the copyright and the resolution of the picture that they were made from.",
        kind="flag",
        group=_MARKING,
    )
    mark: bool = option(
        True, "Write into every result that a model made it (XMP, DigitalSourceType).", kind="flag", group=_MARKING
    )
    c2pa_cert: Path | None = option(
        None,
        "Sign results (C2PA, extra c2pa): the certificate and those it hangs on, PEM; with --c2pa-key.",
        kind="path",
        group=_MARKING,
    )
    c2pa_key: Path | None = option(None, "The private key of --c2pa-cert, PEM.", kind="path", group=_MARKING)
    watermark: bool = option(
        False,
        "Put an invisible watermark into results (extra watermark). It changes pixels everywhere: outside a mask they"
        " are no longer the input's to the byte.",
        kind="flag",
        group=_MARKING,
    )

    def __post_init__(self) -> None:
        validate(self)
        if (self.c2pa_cert is None) != (self.c2pa_key is None):
            given, missing = ("c2pa_cert", "c2pa_key") if self.c2pa_cert else ("c2pa_key", "c2pa_cert")
            raise OptionError(f"{given} is given without {missing}", remedy="Signing needs both", option=missing)
