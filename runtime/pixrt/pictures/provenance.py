"""What a picture says of how it came about: IPTC's DigitalSourceType and the program, as an XMP packet.

Pillow is not needed. Must not import a backend.
"""

from enum import StrEnum

from pixrt._version import __version__
from pixrt.options.tasks import Options

XMP_KEY = "XML:com.adobe.xmp"  # of the PNG text chunk (XMP part 3, 1.1.5)
_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# Nobody may change the packet in place (end="r"): it has no room for that. The first character is a byte order mark.
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <xmp:CreatorTool>{tool}</xmp:CreatorTool>
   <Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


class SourceType(StrEnum):
    """How a picture came about, in IPTC's words (NewsCodes, Digital Source Type)."""

    EDITED = f"{_TERMS}compositeWithTrainedAlgorithmicMedia"
    GENERATED = f"{_TERMS}trainedAlgorithmicMedia"

    @classmethod
    def of(cls, options: Options) -> "SourceType":
        """Of a result: edited if its task begins with a picture, else generated."""
        return cls.EDITED if "image" in options.needs else cls.GENERATED


def xmp_packet(source_type: SourceType) -> str:
    """The packet, to be written in UTF-8."""
    return _PACKET.format(tool=f"pixrt {__version__}", source_type=source_type.value)


def read_source_type(xmp: bytes) -> SourceType | None:
    """What an XMP packet says; None if it is none, or says another type than pixrt writes.

    Found by the term's name: a packet of somebody else is not parsed as XML, which takes care with hostile files.
    """
    found = [kind for kind in SourceType if kind.value.encode() in xmp]
    return found[0] if len(found) == 1 else None
