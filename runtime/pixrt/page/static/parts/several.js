// What was asked for at once: results side by side, in the order of their sources; all of them as a zip.
import { html, useComputed } from "../vendor/preact.js";
import { byId, current, entries, pictureOf, select } from "../core/history.js";
import { useUrl } from "../core/hooks.js";
import { again, isMoving, jobs } from "../core/jobs.js";
import { fileNameOf } from "../core/copying.js";
import { sources } from "../core/state.js";
import { t } from "../core/texts.js";
import { labelOf, madeBy } from "./comparison.js";
import { saveZip } from "./saving.js";
import { grid } from "./sweep_grid.js";

/** @param {{group: string}} props the group, of which there is more than one picture */
export function Several({ group }) {
  const made = entries.value.filter((entry) => entry.kind === "result" && entry.group === group);
  const asked = jobs.value.filter(({ request, state }) => request.group === group && state !== "done");
  const failed = asked.filter((pending) => !isMoving(pending));
  if (group === grid.value?.group || made.length + asked.length < 2) return null; // a sweep has its table
  const items = [
    ...made.map((entry) => ({ id: entry.id, at: entry.created, source: entry.parent, entry })),
    ...asked
      .filter(({ id }) => !byId.value.has(id))
      .map((pending) => ({ id: pending.id, at: pending.asked, source: pending.request.image, pending })),
  ].sort((one, other) => placeOf(one) - placeOf(other) || one.at - other.at);
  const retry = () => failed.forEach((pending) => again(pending));
  return html`
    <section class="several" aria-labelledby="several-title">
      <header class="part-head">
        <h2 id="several-title">${t("several.title")}</h2>
        <p role="status">${t("several.done", { done: made.length, of: items.length })}</p>
      </header>
      <ul class="several-list">
        ${items.map(({ id, entry, pending }) => {
          const item = entry ? html`<${Made} entry=${entry} />` : html`<${Waiting} ...${pending} />`;
          return html`<li key=${id}>${item}</li>`;
        })}
      </ul>
      <div class="row">
        <button type="button" disabled=${!made.length} onClick=${() => saveAll(made)}>${t("several.zip")}</button>
        ${
          failed.length > 0 &&
          html`<button type="button" onClick=${retry}>${t("several.retry", { n: failed.length })}</button>`
        }
      </div>
    </section>
  `;
}

function Made({ entry }) {
  const url = useUrl("thumb", entry.id);
  const source = byId.value.get(entry.parent);
  const isCurrent = useComputed(() => current.value === entry.id);
  return html`
    <button type="button" class="several-item" aria-pressed=${isCurrent} onClick=${() => select(entry.id)}
      aria-label=${t("several.open", { name: labelOf(entry) })}>
      ${url && html`<img src=${url} alt="" />`}
    </button>
    <p>${source ? nameOf(source) : labelOf(entry)} <small>${t("several.seed", { seed: String(entry.seed) })}</small></p>
    <p class="made">${madeBy(entry)}</p>
  `;
}

function Waiting({ state, step, steps, problem, request }) {
  const source = byId.value.get(request.image);
  const words = {
    running: () => t("progress.step", { step, steps }),
    failed: () => problem?.message ?? t("problem.unknown"),
    cancelled: () => t("progress.cancelled"),
  }[state];
  return html`
    <p class=${`several-item${words && state !== "running" ? " fault" : ""}`}>${words ? words() : t("sweep.waits")}</p>
    ${source && html`<p>${nameOf(source)}</p>`}
  `;
}

/** The place of a picture's source among those that are composed with: one that was tried again is where it was. */
const placeOf = ({ source }) => sources.value.indexOf(source);

const nameOf = (entry) => (entry.kind === "source" ? entry.name : labelOf(entry));

/** A zip of results, each named as the source it was made of. */
async function saveAll(made) {
  const files = made.map(async (entry) => {
    const source = byId.value.get(entry.parent);
    const own = fileNameOf(entry);
    const suffix = /\.\w+$/.exec(own)[0];
    const name = source ? `${fileNameOf(source).replace(/\.\w+$/, "")}${suffix}` : own;
    return { name, input: await pictureOf(entry.id), lastModified: new Date(entry.created) };
  });
  await saveZip(await Promise.all(files), "pixrt.zip");
}
