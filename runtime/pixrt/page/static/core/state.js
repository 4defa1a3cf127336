/** What the user is composing: kept while it is written, and there again after a reload. */
import { batch, computed, effect, signal } from "../vendor/preact.js";
import { byId, getSetting, newId, setSetting } from "./history.js";
import { check, optionsOf, schema } from "./schema.js";
import { t } from "./texts.js";

/** What the page asks for where the server's default is another: as many pictures on the way as there can be. */
const OURS = { partial_images: 10 };
const SHOWN = ["output_format", "output_compression", "partial_images"];
const MARGIN = 64 << 10; // bytes of a request beside its pictures

export const task = signal("edit");
export const prompt = signal("");
/** Options that were set, by name; what is at its default is not there. */
export const options = signal({});
/** The same for the other fields of a job, such as output_format. */
export const fields = signal({});
/** @type {{value: {name: string, scale: number}[]}} */
export const loras = signal([]);
/** Ids of the pictures that are to be edited, in order. */
export const sources = signal([]);
/** PNG of the first source's size: white may change. @type {{value: Blob|null}} */
export const mask = signal(null);
/** What a mask is for: to keep an edit to a part ("edit"), or to fill the part anew ("inpaint"). */
export const maskMode = signal("edit");
/** The picture whose style is taken. @type {{value: Blob|null}} */
export const style = signal(null);
/** Whether every run has the same seed, `options.seed`; else each draws one. */
export const seedLocked = signal(false);
/** How many variants are asked for at once. */
export const count = signal(1);

/** Whether the user has tried to send: until then nothing that is merely missing is complained of. */
export const tried = signal(false);
/** What the server said of a field, by its name, until it is changed. */
export const said = signal({});

const takes = computed(() => {
  const unknown = { needs: ["image"], may_have: ["mask"] }; // so that pictures can be brought while the server is away
  const { needs = [], may_have = [] } = schema.value ? (schema.value.tasks[task.value] ?? {}) : unknown;
  return new Set([...needs, ...may_have]);
});

/** Whether the task takes "image", "mask" or "style". */
export const isTaken = (picture) => takes.value.has(picture);

/** The sources that the history still has. */
const brought = computed(() => sources.value.filter((id) => byId.value.has(id)));

const missing = computed(() => {
  const needs = schema.value?.tasks[task.value]?.needs ?? [];
  const found = {};
  if (needs.includes("image") && !brought.value.length) found.image = t("check.image");
  if (needs.includes("mask") && !mask.value) found.mask = t("check.mask");
  if (needs.includes("style") && !style.value) found.style = t("check.style");
  if (task.value !== "style" && !prompt.value.trim()) found.prompt = t("check.prompt");
  return found;
});

/** What is wrong now, by the field's name, in words. */
export const faults = computed(() => ({
  ...check("request", fields.value),
  ...check(task.value, options.value),
  ...(tried.value ? missing.value : {}),
  ...said.value,
}));

/** Set an option, or with undefined put it back to its default. */
export function setOption(name, value) {
  set(options, task.value, name, value);
}

/** The same for a field of the request. */
export function setField(name, value) {
  set(fields, "request", name, value);
}

function set(values, kind, name, value) {
  const { [name]: _, ...others } = values.value;
  const known = optionsOf(kind).find((option) => option.name === name);
  const usual = kind === "request" ? (OURS[name] ?? known?.default) : known?.default;
  // A preset fills in what is not set: there the default has to be said.
  const isDefault = spell(value) === spell(usual) && !options.value.preset;
  values.value = value === undefined || isDefault ? others : { ...others, [name]: value };
  heard(name);
}

const spell = (value) => (Array.isArray(value) ? value.join() : String(value));

/** The server's complaint about a field is answered by changing it. */
export function heard(name) {
  const { [name]: _, ...others } = said.value;
  said.value = others;
}

/** Fields of a job beside its task's options that the page shows, with the page's defaults. */
export function fieldOptions() {
  const shown = optionsOf("request").filter(({ name }) => SHOWN.includes(name));
  return shown.map((option) => ({ ...option, default: OURS[option.name] ?? option.default }));
}

/** These fields as they are to be sent. */
export const fieldsNow = () => ({ ...OURS, ...fields.value });

/** Options that the user has set and the task knows. */
export const given = computed(() => {
  const names = optionsOf(task.value).map((option) => option.name);
  return Object.fromEntries(Object.entries(options.value).filter(([name]) => names.includes(name)));
});

/** @returns {Promise<import("./sending.js").Request>} of the first source */
export async function compose() {
  const seed = seedLocked.value ? options.value.seed : undefined;
  return withoutMaskOptions({
    task: task.value,
    prompt: prompt.value.trim(),
    options: { ...given.value, seed: seed ?? drawSeed() },
    lora: loras.value,
    image: isTaken("image") ? (brought.value[0] ?? null) : null,
    mask: isTaken("mask") ? mask.value : null,
    style: isTaken("style") ? style.value : null,
    n: count.value,
    fields: fieldsNow(),
    group: newId(),
  });
}

/** One request for each source, all of one group; the mask is the first one's. */
export async function composeAll() {
  const first = await compose();
  const images = isTaken("image") ? brought.value : [null];
  const isForFirst = task.value === "edit";
  return images.map((image, index) =>
    withoutMaskOptions({ ...first, image, mask: index && isForFirst ? null : first.mask }),
  );
}

/** What is said of a mask is left out where there is none: it would be refused. */
function withoutMaskOptions(request) {
  if (request.mask) return request;
  const others = optionsOf(request.task).filter(({ group }) => group !== "Mask");
  const kept = others.map(({ name }) => [name, request.options[name]]).filter(([, value]) => value !== undefined);
  return { ...request, options: Object.fromEntries(kept) };
}

/** A seed that is short enough to be typed again. */
export function drawSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

/** Whether pictures of so many bytes are too much for the server. */
export const isTooLarge = (bytes) => bytes > (schema.value?.max_body_bytes ?? Infinity) - MARGIN;

/**
 * Take over how a picture was made.
 * @param {{task: string, prompt: string, options: object, loras: {name: string, scale: number}[]}} made as
 *   /v1/parameters has it; what it says beside the task's options is left out
 */
export function restore({ task: wanted, prompt: text, options: values, loras: used }) {
  batch(() => {
    if (wanted in (schema.value?.tasks ?? {})) task.value = wanted;
    prompt.value = text;
    options.value = {};
    for (const { name } of optionsOf(task.value)) {
      if (values[name] !== undefined && values[name] !== null) setOption(name, values[name]);
    }
    seedLocked.value = options.value.seed !== undefined;
    loras.value = used.filter(({ name }) => schema.value?.loras.includes(name));
    said.value = {};
  });
}

const DRAFT = { task, prompt, options, fields, loras, sources, maskMode, seedLocked, count };
const PICTURES = { mask, style };

/** Take up what was composed last, in this tab or else in any, and keep what follows. */
export async function openDraft() {
  const kept = (await getSetting("draft")) ?? {};
  const own = JSON.parse(sessionStorage["pixrt.draft"] ?? "null");
  batch(() => {
    for (const [name, value] of Object.entries(DRAFT)) value.value = (own ?? kept)[name] ?? value.value;
    for (const [name, value] of Object.entries(PICTURES)) value.value = kept[name] ?? null;
    sources.value = sources.value.filter((id) => byId.value.has(id));
    if (own && JSON.stringify(own.sources) !== JSON.stringify(kept.sources)) mask.value = null; // another tab's
  });
  let timer;
  effect(() => {
    const words = Object.fromEntries(Object.entries(DRAFT).map(([name, { value }]) => [name, value]));
    const pictures = Object.fromEntries(Object.entries(PICTURES).map(([name, { value }]) => [name, value]));
    sessionStorage["pixrt.draft"] = JSON.stringify(words);
    clearTimeout(timer);
    timer = setTimeout(() => setSetting("draft", { ...words, ...pictures }), 300);
  });
}

/** Forget it, before everything else is forgotten. */
export function dropDraft() {
  delete sessionStorage["pixrt.draft"];
}
