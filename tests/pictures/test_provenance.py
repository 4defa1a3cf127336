"""What every result says of how it came about, read by an independent reader of XMP."""

import io
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixrt._version import __version__
from pixrt.options.marking import MarkingOptions
from pixrt.options.tasks import TASK_OPTIONS
from pixrt.pictures.codecs import encode_picture, read_parameters, save_picture
from pixrt.pictures.formats import MEDIA_TYPES, SUFFIXES, Format
from pixrt.pictures.marking import Marking
from pixrt.pictures.marks import read_marks
from pixrt.pictures.provenance import SourceType, read_source_type, xmp_packet

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
CREATOR_TOOL = "{http://ns.adobe.com/xap/1.0/}CreatorTool"
DIGITAL_SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"


def properties(packet: bytes) -> dict[str, str | None]:
    """The simple properties of an XMP packet about the picture, as RDF has them."""
    root = ET.fromstring(packet)
    assert root.tag == "{adobe:ns:meta/}xmpmeta"
    (rdf,) = root
    assert rdf.tag == f"{RDF}RDF"
    (description,) = rdf
    assert (description.tag, description.attrib) == (f"{RDF}Description", {f"{RDF}about": ""})
    return {element.tag: element.text for element in description}


@pytest.mark.parametrize("format", MEDIA_TYPES)
@pytest.mark.parametrize(
    ("made", "term"), [(SourceType.EDITED, "compositeWithTrained"), (SourceType.GENERATED, "trained")]
)
def test_every_format_says_that_a_model_made_it(format: Format, made: SourceType, term: str) -> None:
    data = encode_picture(NOISE, format, parameters="{}", made=made)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        packet = image.info["xmp"]
        assert read_source_type(bytes(packet)) is made
    said = properties(packet)
    assert said == {CREATOR_TOOL: f"pixrt {__version__}", DIGITAL_SOURCE_TYPE: f"{TERMS}{term}AlgorithmicMedia"}
    # Found in the bytes as they are by what scans files for packets: it must not be compressed.
    (start, end) = (data.index(b'<?xpacket begin="\xef\xbb\xbf"'), data.index(b"<?xpacket end="))
    assert start < data.index(b"W5M0MpCehiHzreSzNTczkc9d") < end


def test_the_chunk_of_a_png_is_as_xmp_says() -> None:
    data = encode_picture(NOISE, "png", parameters="{}", made=SourceType.EDITED)
    # Keyword, not compressed, no language, no translated keyword.
    assert b"iTXtXML:com.adobe.xmp\0\0\0\0\0" + xmp_packet(SourceType.EDITED).encode() in data


@pytest.mark.parametrize("task", TASK_OPTIONS)
def test_what_each_task_makes(task: str) -> None:
    expected = SourceType.GENERATED if task == "generate" else SourceType.EDITED
    assert SourceType.of(TASK_OPTIONS[task]()) is expected


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_a_mark(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"it{suffix}"
    marking = Marking.of(MarkingOptions(mark=False))
    save_picture(NOISE, path, parameters='{"pixrt": "0"}', made=SourceType.EDITED, marking=marking)
    assert b"xmpmeta" not in path.read_bytes()
    assert read_marks(path).source_type is None
    assert read_parameters(path) == {"pixrt": "0"}


def test_packets_of_others() -> None:
    both = f"{SourceType.EDITED.value} {SourceType.GENERATED.value}".encode()
    for packet in (b"", b"\xff\0", b"<x/>", both):
        assert read_source_type(packet) is None
    assert read_source_type(f"<a b='{SourceType.GENERATED.value}'/>".encode()) is SourceType.GENERATED
