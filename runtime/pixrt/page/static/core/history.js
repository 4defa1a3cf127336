/**
 * The pictures that the user has brought and those that were made of them: a tree, kept in the browser.
 *
 * @typedef {object} Entry
 * @property {string} id a job's for a result
 * @property {string|null} parent the entry that it was made of
 * @property {"source"|"result"} kind
 * @property {number} created milliseconds
 * @property {string} name of a source's file
 * @property {number} width @property {number} height
 * @property {string} task @property {string} prompt @property {object} parameters as the server told them
 * @property {{name: string, scale: number}[]} lora
 * @property {number} seed @property {string} model @property {string} sha256 the model's @property {string} notice
 * @property {string[]} [notes] what the server says of the result
 * @property {string} group what was asked for at once has one group
 * @property {string} media_type @property {object} [fields] what was asked for beside options, such as output_compression
 */
import { computed, effect, signal } from "../vendor/preact.js";
import { decode, thumbnail } from "./pictures.js";
import * as store from "./store.js";
import { t } from "./texts.js";

/** All entries without their pictures, oldest first. */
export const entries = signal([]);
/** The id of the entry that is looked at, or null. */
export const current = signal(null);
export const byId = computed(() => new Map(entries.value.map((entry) => [entry.id, entry])));

const urls = new Map(); // "picture:ID" or "thumb:ID" -> Promise<string>
const visited = new Map(); // an entry's id -> the child that was last looked at
const settingListeners = [];

const parent = computed(() => byId.value.get(byId.value.get(current.value)?.parent)?.id ?? null);
const child = computed(() => {
  const children = entries.value.filter((entry) => entry.parent && entry.parent === current.value);
  return (children.find((entry) => entry.id === visited.get(current.value)) ?? children.at(-1))?.id ?? null;
});
export const canUndo = computed(() => parent.value !== null);
export const canRedo = computed(() => child.value !== null);

/** Read what is kept, and follow what other pages do to it. */
export async function openHistory() {
  await store.openStore();
  await refresh();
  const seen = sessionStorage["pixrt.current"];
  select(byId.value.has(seen) ? seen : (entries.value.at(-1)?.id ?? null));
  effect(() => (sessionStorage["pixrt.current"] = current.value ?? ""));
  store.onChange((name, key) => {
    if (name === "entries" || name === "all") refresh();
    if (name === "settings") settingListeners.forEach((listener) => listener(key));
  });
}

const byAge = (a, b) => a.created - b.created;

async function refresh() {
  entries.value = (await store.all("entries")).sort(byAge);
  if (current.value && !byId.value.has(current.value)) select(entries.value.at(-1)?.id ?? null);
}

/** Add a picture of the user's. Throws Error in words if the browser cannot read it. */
export async function addSource(blob, name) {
  const id = newId();
  return add({ ...blank, id, kind: "source", name, media_type: blob.type }, blob);
}

/**
 * Add a picture that was made; the entry's id is its job's.
 * @param {Entry} entry
 * @param {Blob} blob
 * @param {{mask?: Blob|null, style?: Blob|null}} inputs what it was made with besides its parent
 */
export function addResult(entry, blob, inputs = {}) {
  return add({ ...blank, kind: "result", ...entry, media_type: blob.type }, blob, inputs);
}

const blank = { parent: null, name: "", task: "", prompt: "", parameters: {}, lora: [], seed: 0, group: "" };

async function add(entry, picture, { mask = null, style = null } = {}) {
  const bitmap = await decode(picture);
  const { width, height } = bitmap;
  const thumb = await thumbnail(bitmap);
  bitmap.close();
  const full = { model: "", sha256: "", notice: "", created: Date.now(), ...entry, width, height };
  await store.put("blobs", full.id, { picture, thumb, mask, style });
  await store.put("entries", full.id, full);
  entries.value = [...entries.value.filter(({ id }) => id !== full.id), full].sort(byAge);
  return full;
}

/** @returns {Promise<Blob>} the file as it came. Throws Error in words if it was removed. */
export async function pictureOf(id) {
  const kept = await store.get("blobs", id);
  if (!kept) throw new Error(t("problem.gone"));
  return kept.picture;
}

/** @returns {Promise<{mask: Blob|null, style: Blob|null}>} what a result was made with besides its parent */
export async function inputsOf(id) {
  const { mask = null, style = null } = (await store.get("blobs", id)) ?? {};
  return { mask, style };
}

/** @returns {Promise<string>} */
export const thumbUrl = (id) => url("thumb", id);
/** @returns {Promise<string>} */
export const pictureUrl = (id) => url("picture", id);

function url(part, id) {
  const name = `${part}:${id}`;
  if (!urls.has(name)) urls.set(name, store.get("blobs", id).then((blobs) => URL.createObjectURL(blobs[part])));
  return urls.get(name);
}

/** Look at an entry. */
export function select(id) {
  const from = byId.value.get(id)?.parent;
  if (from) visited.set(from, id);
  current.value = id;
}

/** Back to the picture that the current one was made of. */
export function undo() {
  if (canUndo.value) select(parent.value);
}

/** Forward to what was made of the current picture, and looked at last. */
export function redo() {
  if (canRedo.value) select(child.value);
}

/** Remove an entry; what was made of it hangs on its parent from then on. */
export async function remove(id) {
  const gone = byId.value.get(id);
  if (!gone) return;
  const orphans = entries.value.filter((entry) => entry.parent === id).map((each) => ({ ...each, parent: gone.parent }));
  for (const entry of orphans) await store.put("entries", entry.id, entry);
  await store.drop("entries", id);
  await store.drop("blobs", id);
  for (const part of ["thumb", "picture"]) {
    urls.get(`${part}:${id}`)?.then(URL.revokeObjectURL);
    urls.delete(`${part}:${id}`);
  }
  const at = entries.value.indexOf(gone);
  const left = entries.value.filter((entry) => entry.id !== id);
  entries.value = left.map((entry) => orphans.find((orphan) => orphan.id === entry.id) ?? entry);
  if (current.value === id) select(gone.parent ?? left[Math.min(at, left.length - 1)]?.id ?? null);
}

/** Forget all pictures, settings and jobs that are under way. */
export async function clear() {
  await store.wipe();
  for (const made of urls.values()) made.then(URL.revokeObjectURL);
  urls.clear();
  entries.value = [];
  current.value = null;
}

export const getSetting = (name) => store.get("settings", name);
export const setSetting = (name, value) => store.put("settings", name, value);

/** Call `listener(name)` when another page has changed a setting. */
export function onSetting(listener) {
  settingListeners.push(listener);
}

/** A name that nothing else has; `crypto.randomUUID` is missing on plain http. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
