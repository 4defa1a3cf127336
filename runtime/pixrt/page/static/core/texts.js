/** The page's words: one file per language, `../texts/LANGUAGE.json`. */
import { computed, signal } from "../vendor/preact.js";
import { getSetting, setSetting } from "./history.js";

export const LANGUAGES = { en: "English", de: "Deutsch" };
export const language = signal("en");
const words = signal({});
const plural = computed(() => new Intl.PluralRules(language.value));

/** Read the words of the language that was chosen, or that the browser prefers. */
export async function loadTexts() {
  const preferred = navigator.languages.map((name) => name.slice(0, 2)).find((name) => name in LANGUAGES);
  await read((await getSetting("language")) ?? preferred ?? "en");
}

/** Change the language, and keep it. */
export async function setLanguage(name) {
  await read(name);
  await setSetting("language", name);
}

async function read(name) {
  const answer = await fetch(new URL(`../texts/${name}.json`, import.meta.url));
  words.value = await answer.json();
  language.value = name;
  document.documentElement.lang = name;
}

/** Whether there is such a text. */
export function has(key) {
  return key in words.value;
}

/**
 * A text, with its `{names}` filled in. With `values.n`, `key.one` or `key.other` if there are these.
 * @param {string} key
 * @param {Record<string, string | number>} values
 */
export function t(key, values = {}) {
  const counted = `${key}.${plural.value.select(values.n ?? 0)}`;
  const text = words.value["n" in values && has(counted) ? counted : key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => format(values[name]) ?? whole);
}

function format(value) {
  return typeof value === "number" ? value.toLocaleString(language.value) : value;
}

/** A time span in words: "4 s", "2 min". */
export function span(seconds) {
  const [value, unit] = seconds < 90 ? [Math.max(1, seconds), "second"] : [seconds / 60, "minute"];
  return new Intl.NumberFormat(language.value, { style: "unit", unit, maximumFractionDigits: 0 }).format(value);
}
