// The last sweep's cells as a table; each opens its picture.
import { html, useEffect } from "../vendor/preact.js";
import { current, select } from "../core/history.js";
import { cancel } from "../core/jobs.js";
import { useUrl } from "../core/hooks.js";
import { t } from "../core/texts.js";
import { labelOf } from "./comparison.js";
import { cells, closeGrid, grid, openGrid, retry, titleOf } from "./sweep_grid.js";
import { saveGrid, saveGridZip } from "./sweep_sheet.js";

/** The last sweep, as long as it is wanted: a table that fills as its cells are made. */
export function SweepTable() {
  useEffect(() => void openGrid(), []);
  return grid.value && html`<${Table} />`;
}

function Table() {
  const { rows, columns, request, seed } = grid.value;
  const all = cells.value;
  const done = all.filter(({ entry }) => entry);
  const failed = all.filter(({ entry, pending, fault }) => fault && !entry && !pending);
  const moving = all.filter(({ pending }) => pending);
  const width = columns?.values.length ?? 1;
  const title = (axis) => titleOf(request.task, axis.name);
  const button = (words, onClick) =>
    html`<button type="button" disabled=${!done.length} onClick=${onClick}>${t(words)}</button>`;
  const stop = () => moving.forEach(({ pending }) => cancel(pending));
  return html`
    <section class="sweep" aria-labelledby="sweep-title">
      <header class="part-head">
        <h2 id="sweep-title">${t("sweep.table")}</h2>
        <p role="status">${t("sweep.done", { done: done.length, of: all.length })}</p>
      </header>
      <p class="hint">${t("sweep.about", { words: request.prompt, seed: String(seed) })}</p>
      <div class="sweep-scroll" tabindex="0" role="group" aria-labelledby="sweep-title">
        <table>
          <thead>
            ${columns && html`<tr><td></td><th scope="colgroup" colspan=${width}>${title(columns)}</th></tr>`}
            <tr>
              <th scope="col">${title(rows)}</th>
              ${columns ? columns.values.map((value) => html`<th scope="col">${spell(value)}</th>`) : html`<td></td>`}
            </tr>
          </thead>
          <tbody>
            ${rows.values.map(
              (value, index) => html`
                <tr key=${value}>
                  <th scope="row">${spell(value)}</th>
                  ${all.slice(index * width, (index + 1) * width).map((cell) => html`<td><${Cell} ...${cell} /></td>`)}
                </tr>
              `,
            )}
          </tbody>
        </table>
      </div>
      <div class="row">
        ${button("sweep.sheet", () => saveGrid(grid.value, all))}
        ${button("several.zip", () => saveGridZip(grid.value, all))}
        ${
          failed.length > 0 &&
          html`<button type="button" onClick=${() => retry(failed)}>
            ${t("several.retry", { n: failed.length })}
          </button>`
        }
        ${
          moving.length > 0
            ? html`<button type="button" onClick=${stop}>${t("progress.cancelAll")}</button>`
            : html`<button type="button" onClick=${closeGrid}>${t("sweep.close")}</button>`
        }
      </div>
    </section>
  `;
}

const spell = (value) => String(value ?? t("controls.none"));

function Cell({ entry, pending, fault, options, ...cell }) {
  const url = useUrl("thumb", entry?.id);
  if (entry) {
    const values = Object.values(options).map(spell).join(", ");
    const label = t("sweep.open", { values, name: labelOf(entry) });
    return html`
      <button type="button" class="sweep-cell" aria-pressed=${current.value === entry.id}
        onClick=${() => select(entry.id)} aria-label=${label}>
        ${url && html`<img src=${url} alt="" />`}
      </button>
    `;
  }
  if (pending) {
    const { state, step, steps } = pending;
    const words = state === "running" ? t("progress.step", { step, steps }) : t("sweep.waits");
    return html`<p class="sweep-cell">${words}</p>`;
  }
  return html`
    <p class="sweep-cell fault">
      ${fault ?? t("sweep.missing")}
      <button type="button" onClick=${() => retry([{ options, ...cell }])}>${t("action.again")}</button>
    </p>
  `;
}
