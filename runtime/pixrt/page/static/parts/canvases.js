// Pictures on canvases: masks read out of files, pictures brought to a size, canvases as files.

const FULL = 255;
const TRACE = 7; // what is so near to nothing, or to all, is that: as the server takes it
// ITU-R 601, in the whole numbers of Pillow's conversion to "L", so that a file's mask is read as the server reads it.
const LUMINANCE = [19595, 38470, 7471, 32768, 16];

/**
 * The mask in a file, by the server's rule: if any of it is transparent, what is; else what is white. What is between
 * acts in proportion.
 *
 * @param {Blob} blob
 * @returns {Promise<{mask: HTMLCanvasElement, isSoft: boolean}>} white, as opaque as it is selected; as large as the
 *   file's picture; and whether something is between
 */
export async function readMask(blob) {
  const bitmap = await createImageBitmap(blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const on = context(bitmap.width, bitmap.height);
  on.drawImage(bitmap, 0, 0);
  bitmap.close();
  const image = on.getImageData(0, 0, on.canvas.width, on.canvas.height);
  const { data } = image;
  let transparent = false;
  for (let at = 3; at < data.length && !transparent; at += 4) transparent = data[at] < FULL;
  const [red, green, blue, half, shift] = LUMINANCE;
  let isSoft = false;
  for (let at = 0; at < data.length; at += 4) {
    const luminance = (data[at] * red + data[at + 1] * green + data[at + 2] * blue + half) >> shift;
    const selected = clean(transparent ? FULL - data[at + 3] : luminance);
    isSoft ||= selected > 0 && selected < FULL;
    data.fill(FULL, at, at + 3);
    data[at + 3] = selected;
  }
  on.putImageData(image, 0, 0);
  return { mask: on.canvas, isSoft };
}

/**
 * A mask as a file: PNG, white where the canvas is opaque, black where it is not; null if it is not anywhere.
 * @param {boolean} isSoft whether what is between stays, or becomes the nearer of both
 */
export async function maskFile(canvas, isSoft) {
  const { width, height } = canvas;
  const image = canvas.getContext("2d").getImageData(0, 0, width, height);
  const { data } = image;
  let any = false;
  for (let at = 0; at < data.length; at += 4) {
    const selected = isSoft ? clean(data[at + 3]) : data[at + 3] > FULL / 2 ? FULL : 0;
    any ||= selected > 0;
    data.fill(selected, at, at + 3);
    data[at + 3] = FULL;
  }
  if (!any) return null;
  const on = context(width, height, { alpha: false });
  on.putImageData(image, 0, 0);
  return toPng(on.canvas);
}

function clean(selected) {
  if (selected <= TRACE) return 0;
  return selected >= FULL - TRACE ? FULL : selected;
}

/** Width and height that a PNG's header says. */
export async function sizeOfPng(blob) {
  const head = new DataView(await blob.slice(0, 24).arrayBuffer());
  return { width: head.getUint32(16), height: head.getUint32(20) };
}

/** A picture on a canvas of its own, brought to a size. */
export function fitTo(picture, width, height) {
  const on = context(width, height);
  on.imageSmoothingQuality = "high";
  on.drawImage(picture, 0, 0, width, height);
  return on.canvas;
}

/** The same picture; if nothing of it is transparent on a canvas without transparency, so that its file has none. */
export function opaque(canvas) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  for (let at = 3; at < data.length; at += 4) if (data[at] < 255) return canvas;
  const on = context(width, height, { alpha: false });
  on.drawImage(canvas, 0, 0);
  return on.canvas;
}

/** A canvas of a size, and what draws on it. */
export function context(width, height, settings = {}) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  return canvas.getContext("2d", { willReadFrequently: true, ...settings });
}

/** A canvas as a PNG file. Throws if the browser cannot: it is too large. */
export function toPng(canvas) {
  return new Promise((resolve, reject) => {
    const done = (blob) => (blob ? resolve(blob) : reject(new Error("canvas")));
    canvas.toBlob(done, "image/png");
  });
}
