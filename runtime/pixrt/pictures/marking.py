"""What results are marked with, opened once for all of them. Must not import a backend."""

from dataclasses import dataclass

from pixrt.options.marking import MarkingOptions
from pixrt.pictures.signing import Signer
from pixrt.pictures.watermark import require_watermark


@dataclass(frozen=True, slots=True)
class Marking:
    """What says in a result that a model made it: an XMP packet, a C2PA signature, an invisible watermark.

    `metadata`: whether the packet and the parameters are written at all; `source_metadata`: whether what the source
    says of itself is kept.
    """

    mark: bool = True
    signer: Signer | None = None
    watermark: bool = False
    metadata: bool = True
    source_metadata: bool = True

    @classmethod
    def of(cls, options: MarkingOptions) -> "Marking":
        """Open what the options name, and try it. Raises OptionError, PackageMissing."""
        if options.watermark:
            require_watermark()
        signer = Signer(options.c2pa_cert, options.c2pa_key) if options.c2pa_cert and options.c2pa_key else None
        return cls(options.mark, signer, options.watermark, options.metadata, not options.strip_source_metadata)


DEFAULT_MARKING = Marking()
