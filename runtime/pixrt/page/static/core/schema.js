/** What the server offers, and whether values fit it. */
import { signal } from "../vendor/preact.js";
import { getSchema } from "./api.js";
import { t } from "./texts.js";

/** `/v1/schema`'s answer, or null before it is there. */
export const schema = signal(null);

/** Ask the server. Throws Problem. */
export async function loadSchema() {
  schema.value = await getSchema();
}

/**
 * A task's options, or with "request" the other fields of a job, as the page shows them.
 * @returns {{name: string, title: string, description: string, type: string, nullable: boolean, group: string,
 *   minimum?: number, maximum?: number, exclusiveMinimum?: number, exclusiveMaximum?: number, enum?: string[],
 *   default: any}[]} `type` is integer, number, string, boolean or array (a window of two shares)
 */
export function optionsOf(task) {
  const found = task === "request" ? schema.value?.request : schema.value?.tasks[task]?.options;
  return Object.entries(found?.properties ?? {}).map(([name, each]) => ({
    ...each,
    name,
    type: [each.type].flat()[0],
    nullable: [each.type].flat().includes("null"),
    enum: each.enum?.filter((value) => value !== null),
    group: each["x-group"],
  }));
}

/**
 * What is wrong with values, by their names, in words; {} if nothing is.
 * @returns {Record<string, string>}
 */
export function check(task, values) {
  const wrong = {};
  for (const option of optionsOf(task)) {
    const value = values[option.name];
    const words = value === undefined || value === null ? null : problemOf(option, value);
    if (words) wrong[option.name] = words;
  }
  return wrong;
}

function problemOf(option, value) {
  const { minimum: low, exclusiveMinimum: above, exclusiveMaximum: below } = option;
  const high = Math.min(option.maximum ?? Infinity, Number.MAX_SAFE_INTEGER); // beyond that numbers lose digits
  if (option.type === "array") return isWindow(value) ? null : t("check.window");
  if (option.enum) return option.enum.includes(value) ? null : t("check.choice", { choices: option.enum.join(", ") });
  if (option.type !== "integer" && option.type !== "number") return null;
  if (typeof value !== "number" || !Number.isFinite(value)) return t("check.number");
  if (option.type === "integer" && !Number.isInteger(value)) return t("check.whole");
  if (value < low || value > high) return t(option.maximum < high + 1 ? "check.between" : "check.least", { low, high });
  if (value <= above) return t("check.above", { above });
  return value >= below ? t("check.below", { below }) : null;
}

function isWindow(value) {
  return Array.isArray(value) && value.length === 2 && 0 <= value[0] && value[0] <= value[1] && value[1] <= 1;
}
