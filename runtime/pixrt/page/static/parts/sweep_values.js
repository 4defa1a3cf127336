// Values of an axis, as a user writes them. Knows no components.

const DIGITS = 6; // of a number between two others

/**
 * Numbers in a text, with commas, semicolons or spaces between them.
 * @returns {number[]|null} in order, each once; null if something else stands there
 */
export function numbersIn(text) {
  const words = text.split(/[\s,;]+/).filter(Boolean);
  const values = words.map(Number);
  return values.every(Number.isFinite) ? [...new Set(values)] : null;
}

/** So many numbers from one to another, both included; whole ones where they have to be, each once. */
export function spread(from, to, count, isWhole) {
  if (count < 2) return [from];
  const steps = Array.from({ length: count }, (_, index) => from + ((to - from) * index) / (count - 1));
  return [...new Set(steps.map((each) => (isWhole ? Math.round(each) : Number(each.toPrecision(DIGITS)))))];
}

/** Three values around one, to begin with, within an option's bounds. */
export function around(value, { type, minimum = -Infinity, maximum = Infinity }) {
  const base = value || 1;
  const wanted = [0.5, 1, 1.5].map((factor) => Number((factor * base).toPrecision(2)));
  const kept = wanted.map((each) => Math.min(maximum, Math.max(minimum, type === "integer" ? Math.round(each) : each)));
  return [...new Set(kept)];
}
