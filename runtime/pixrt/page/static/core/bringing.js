/** Pictures that the user brings: into the history, and before the user as sources. */
import { signal } from "../vendor/preact.js";
import { readParameters } from "./api.js";
import { addSource, select } from "./history.js";
import { schema } from "./schema.js";
import { heard, isTaken, isTooLarge, restore, sources, style, task } from "./state.js";
import { t } from "./texts.js";

const HEAD = 256 << 10; // bytes at either end of a file in which parameters are looked for

/** How the last picture that was brought was made, if its file says so, until that is taken over or not. */
export const remembered = signal(null);

/**
 * Bring files. Those that are no pictures are told, by an Error in words that is thrown after the others are in.
 * @param {Iterable<File>} files
 * @param {{isMore?: boolean}} options whether they come after those that are there, or in their place
 */
export async function bring(files, { isMore = false } = {}) {
  const added = [];
  const wrong = [];
  for (const file of files) {
    try {
      checkSize(file);
      added.push(await addSource(file, file.name));
    } catch (error) {
      wrong.push(file.name ? `${file.name}: ${error.message}` : error.message);
    }
  }
  if (added.length) {
    sources.value = [...(isMore ? sources.value : []), ...added.map(({ id }) => id)];
    select(added[0].id);
    heard("image");
    if (!isTaken("image")) takePictures();
    await recall(files[0]);
  }
  if (wrong.length) throw new Error(wrong.join(" "));
}

/** Bring the picture whose style is taken. Throws Error in words. */
export function bringStyle(file) {
  checkSize(file);
  style.value = file;
  heard("style");
}

/** Take over what the picture remembers. @returns {string[]} what could not be, by name */
export function takeOver() {
  const { missing_loras, pictures, unknown, model_sha256, model } = remembered.value;
  restore(remembered.value);
  const isOther = model_sha256 !== schema.value.model.sha256;
  remembered.value = null;
  return [
    ...missing_loras.map((name) => `LoRA ${name}`),
    ...pictures.map((name) => t(`restore.${name}`)),
    ...(isOther ? [t("restore.model", { model: model || "?" })] : []),
    ...unknown,
  ];
}

function checkSize({ size, name }) {
  if (!isTooLarge(size)) return;
  const most = Math.floor(schema.value.max_body_bytes / 1e6);
  throw new Error(t("check.large", { name, size: Math.ceil(size / 1e6), most }));
}

/** A task that takes a picture, instead of one that does not. */
function takePictures() {
  const names = Object.keys(schema.value?.tasks ?? {});
  const found = names.find((name) => schema.value.tasks[name].needs.includes("image"));
  if (found) task.value = found;
}

/** Ask the server how a picture was made, but only if the file looks as if it said so. */
async function recall(file) {
  remembered.value = null;
  const ends = await new Blob([file.slice(0, HEAD), file.slice(-HEAD)]).arrayBuffer();
  const text = new TextDecoder("latin1").decode(ends);
  if (!/pixrt|parameters\0|S\0?t\0?e\0?p\0?s\0?:/.test(text)) return;
  remembered.value = await readParameters(file).catch(() => null);
}
