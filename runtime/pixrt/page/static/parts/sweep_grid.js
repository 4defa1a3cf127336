// The last sweep: its axes, how it was asked for, and what has become of every cell. Kept in the settings.
import { computed, effect, signal } from "../vendor/preact.js";
import { entries, getSetting, newId, setSetting } from "../core/history.js";
import { isMoving, jobs, send } from "../core/jobs.js";
import { check, optionsOf } from "../core/schema.js";
import { compose } from "../core/state.js";
import { t } from "../core/texts.js";

export const MOST_CELLS = 25;
const AXIS_TYPES = ["integer", "number", "string"];

/**
 * The grid: `{group, request, rows: Axis, columns: Axis|null, seed, faults}`, or null. An axis is `{name, values}`.
 * `faults` are what was wrong with cells, by their keys: the list of jobs forgets those that have ended.
 */
export const grid = signal(null);

/** Take up the grid that was there before a reload. */
export async function openGrid() {
  grid.value ??= (await getSetting("sweep")) ?? null;
}

function keep(value) {
  grid.value = value;
  return setSetting("sweep", value);
}

/** Options that can be swept: numbers and choices. */
export function axesOf(task) {
  return optionsOf(task).filter(({ type, enum: choices, name }) => {
    return name !== "seed" && AXIS_TYPES.includes(type) && (type !== "string" || choices);
  });
}

/** The title of an option in plain words. */
export function titleOf(task, name) {
  const words = t(`option.${name}`);
  return words === `option.${name}` ? (optionsOf(task).find((each) => each.name === name)?.title ?? name) : words;
}

/**
 * Ask for every cell, with one seed.
 * @param {{name: string, values: any[]}} rows
 * @param {{name: string, values: any[]}|null} columns
 */
export async function startSweep(rows, columns) {
  const request = { ...(await compose()), n: 1 };
  request.fields = { ...request.fields, partial_images: 0 }; // 25 pictures that change every second help nobody
  await keep({ group: request.group, request, rows, columns, seed: request.options.seed, faults: {} });
  for (const { options } of cellsOf(grid.value))
    await send({ ...request, options: { ...request.options, ...options } });
}

/** What is wrong with a sweep's cells before it is sent, in words; null if nothing is. */
export function faultOf(task, options, rows, columns) {
  for (const cell of cellsOf({ rows, columns })) {
    const [wrong] = Object.entries(check(task, { ...options, ...cell.options }));
    if (wrong) return `${titleOf(task, wrong[0])}: ${wrong[1]}`;
  }
  return null;
}

/** Ask once more for cells that failed. */
export async function retry(cells) {
  const { request, faults } = grid.value;
  const left = Object.fromEntries(Object.entries(faults).filter(([name]) => !cells.some(({ key }) => key === name)));
  await keep({ ...grid.value, faults: left });
  for (const { options } of cells) await send({ ...request, options: { ...request.options, ...options } });
}

/** Forget the grid; its pictures stay in the history. */
export const closeGrid = () => keep(null);

/** All cells, row by row: `{key, row, column, options}`. */
function cellsOf({ rows, columns }) {
  return rows.values.flatMap((row) =>
    (columns?.values ?? [null]).map((column) => {
      const options = { [rows.name]: row, ...(columns ? { [columns.name]: column } : {}) };
      return { key: JSON.stringify(options), row, column, options };
    }),
  );
}

/** All cells with what has become of them: an `entry`, a `pending`, or a `fault`. */
export const cells = computed(() => {
  if (!grid.value) return [];
  const { group, faults } = grid.value;
  const made = entries.value.filter((entry) => entry.group === group && entry.kind === "result");
  const asked = jobs.value.filter(({ request }) => request.group === group);
  return cellsOf(grid.value).map((cell) => ({
    ...cell,
    entry: made.find(({ parameters }) => has(parameters, cell.options)),
    pending: asked.find((each) => isMoving(each) && has(each.request.options, cell.options)),
    fault: faults[cell.key],
  }));
});

function has(values, wanted) {
  return Object.entries(wanted).every(([name, value]) => values[name] === value);
}

// The list of jobs is emptied of what has failed when something new is sent: it is written down before.
effect(() => {
  const failed = jobs.value.filter(({ state, request }) => {
    return request.group === grid.value?.group && (state === "failed" || state === "cancelled");
  });
  const news = {};
  for (const { state, problem, request } of failed) {
    const cell = cellsOf(grid.value).find(({ options }) => has(request.options, options));
    const words = state === "cancelled" ? t("progress.cancelled") : (problem?.message ?? t("problem.unknown"));
    if (cell && grid.value.faults[cell.key] !== words) news[cell.key] = words;
  }
  if (Object.keys(news).length) keep({ ...grid.value, faults: { ...grid.value.faults, ...news } });
});
