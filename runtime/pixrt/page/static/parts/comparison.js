// Which two entries of the history are compared: those that were chosen, else the current one and what it was made of.
import { computed, effect, signal, useEffect, useSignal } from "../vendor/preact.js";
import { byId, current, entries, pictureUrl, thumbUrl } from "../core/history.js";
import { jobs } from "../core/jobs.js";
import { sources } from "../core/state.js";
import { t } from "../core/texts.js";

const LONGEST = 48; // characters of a label

/** Ids of the entries that were chosen for comparison; null: the picture before, and the current one. */
export const chosen = { a: signal(null), b: signal(null) };

/** The two entries; `before` is null if there is only one picture, `after` if there is none. */
export const pair = computed(() => {
  const known = byId.value;
  const after = known.get(chosen.b.value) ?? known.get(current.value) ?? null;
  const before = known.get(chosen.a.value) ?? known.get(after?.parent) ?? null;
  return { before: before === after ? null : before, after };
});

// Who brings a picture, or asks for one, wants to see it next: the second is then the current one again.
let asked = new Set();
effect(() => {
  const now = new Set([...sources.value, ...jobs.value.map(({ id }) => id)]);
  if ([...now].some((id) => !asked.has(id))) chosen.b.value = null;
  asked = now;
});

const numbers = computed(() => new Map(entries.value.map((entry, index) => [entry.id, index + 1])));

/** An entry in words: its place in the history, and what was asked for or the file's name. */
export function labelOf(entry) {
  const words = entry.kind === "source" ? entry.name : entry.prompt || t(`task.${entry.task}`);
  const short = words.length > LONGEST ? `${words.slice(0, LONGEST - 1)}…` : words;
  return t("entry.label", { number: numbers.value.get(entry.id) ?? 0, words: short });
}

/** What stands beside every picture of a model's; null for a user's own. */
export function madeBy(entry) {
  return entry?.kind === "result" ? t("result.ai", { model: entry.model }) : null;
}

/** The address of an entry's picture, or of its thumbnail; null until it is there. The last one stays meanwhile. */
export function useAddress(id, isThumb = false) {
  const address = useSignal(null);
  useEffect(() => {
    let isWanted = Boolean(id);
    if (!id) address.value = null;
    else
      (isThumb ? thumbUrl : pictureUrl)(id).then(
        (found) => isWanted && (address.value = found),
        () => {},
      );
    return () => (isWanted = false);
  }, [id, isThumb]);
  return address.value;
}
