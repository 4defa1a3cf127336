/** A result as the request that it came of: to vary it, or to compose on from there. */
import { byId, inputsOf, newId } from "./history.js";
import { send } from "./jobs.js";
import { optionsOf } from "./schema.js";
import { drawSeed, fieldsNow, mask, restore, sources, style } from "./state.js";

/** Ask for so many more of its kind, each with another seed. @param {import("./history.js").Entry} entry */
export async function vary(entry, n) {
  entry = edited(entry);
  const names = optionsOf(entry.task).map(({ name }) => name);
  const known = Object.entries(entry.parameters).filter(([name, value]) => names.includes(name) && value !== null);
  const { task, prompt, lora, parent: image } = entry;
  const options = { ...Object.fromEntries(known), seed: drawSeed() };
  const inputs = await inputsOf(entry.id);
  return send({ task, prompt, lora, image, options, ...inputs, n, fields: fieldsNow(), group: newId() });
}

/** Compose the same again: its picture, mask, words, options and seed. */
export async function takeUp(entry) {
  const { id, parent, task, prompt, parameters, lora } = edited(entry);
  const inputs = await inputsOf(id);
  restore({ task, prompt, options: parameters, loras: lora });
  if (byId.value.has(parent)) sources.value = [parent];
  mask.value = inputs.mask;
  style.value = inputs.style;
}

/** What a picture was before its original was painted back: that is what a server has made, and can make again. */
export function edited(entry) {
  const parent = entry.parameters.painted_back ? byId.value.get(entry.parent) : null;
  return parent ? edited(parent) : entry;
}
