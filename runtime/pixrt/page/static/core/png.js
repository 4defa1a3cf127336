/**
 * Texts inside a PNG that the browser made, as the server writes them: parameters, and that a model took part.
 *
 * A canvas forgets what the files said that were drawn on it; what is made of a model's pictures should not.
 */

const HEAD = 33; // bytes of the signature and of the header's chunk
const SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";

/**
 * @param {Blob} png
 * @param {Record<string, string>} texts by keyword
 * @returns {Promise<Blob>} the same picture with them (iTXt, not compressed)
 */
export async function withTexts(png, texts) {
  const chunks = Object.entries(texts).map(([keyword, text]) => chunkOf(keyword, text));
  return new Blob([png.slice(0, HEAD), ...chunks, png.slice(HEAD)], { type: "image/png" });
}

/** The XMP packet of a picture that a model took part in (docs/provenance.md). */
export function xmpPacket(version = "") {
  return `<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <xmp:CreatorTool>${`pixrt ${version}`.trim().replace(/[<&]/g, "")}</xmp:CreatorTool>
   <Iptc4xmpExt:DigitalSourceType>${SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>`;
}

function chunkOf(keyword, text) {
  const encoder = new TextEncoder();
  const body = encoder.encode(`iTXt${keyword}\0\0\0\0\0${text}`);
  const chunk = new Uint8Array(body.length + 8);
  const numbers = new DataView(chunk.buffer);
  numbers.setUint32(0, body.length - 4); // without its type
  chunk.set(body, 4);
  numbers.setUint32(body.length + 4, crc(body));
  return chunk;
}

/** CRC-32 as PNG has it (annex D). */
function crc(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return (sum ^ 0xffffffff) >>> 0;
}
