/** Pictures as bitmaps, in the browser alone. */
import { t } from "./texts.js";

const THUMB = 192; // pixels of a thumbnail's longer side: 96 on a screen with two pixels for one

/** @returns {Promise<ImageBitmap>} upright. Throws Error in words if the browser cannot read it. */
export async function decode(blob) {
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new Error(t("problem.unreadable"));
  }
}

/** @returns {Promise<Blob>} a small one of a picture, as WebP, or PNG where the browser cannot write that */
export async function thumbnail(picture) {
  const bitmap = picture instanceof Blob ? await decode(picture) : picture;
  const scale = Math.min(1, THUMB / Math.max(bitmap.width, bitmap.height));
  const canvas = canvasOf(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  const paper = canvas.getContext("2d");
  paper.imageSmoothingQuality = "high";
  paper.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return toBlob(canvas, "image/webp");
}

/**
 * How far two pictures differ, in every channel, as a canvas of the second one's size.
 * @param {ImageBitmap} before @param {ImageBitmap} after
 * @param {number} gain how many times a difference is shown as large as it is
 */
export function difference(before, after, gain = 1) {
  const canvas = canvasOf(after.width, after.height);
  const paper = canvas.getContext("2d");
  paper.drawImage(before, 0, 0, canvas.width, canvas.height);
  paper.globalCompositeOperation = "difference";
  paper.drawImage(after, 0, 0, canvas.width, canvas.height);
  paper.globalCompositeOperation = "lighter"; // doubles what is there, each time
  for (let shown = 1; shown < gain; shown *= 2) paper.drawImage(canvas, 0, 0);
  return canvas;
}

/**
 * A mask as the server reads it: white where the canvas is painted (whatever the colour), black elsewhere.
 * @param {HTMLCanvasElement} painted @returns {Promise<Blob>} PNG
 */
export function maskOf(painted) {
  const canvas = canvasOf(painted.width, painted.height);
  const paper = canvas.getContext("2d");
  paper.drawImage(painted, 0, 0);
  paper.globalCompositeOperation = "source-in";
  fill(canvas, "white");
  paper.globalCompositeOperation = "destination-over";
  fill(canvas, "black");
  return toBlob(canvas, "image/png");
}

export function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** @returns {Promise<Blob>} */
export function toBlob(canvas, type) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(t("problem.unreadable")))), type, 0.85);
  });
}

function fill(canvas, colour) {
  const paper = canvas.getContext("2d");
  paper.fillStyle = colour;
  paper.fillRect(0, 0, canvas.width, canvas.height);
}
