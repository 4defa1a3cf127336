// A sweep: the same picture, words and seed with several values of one or two options. Here it is set up.
import { html, useSignal } from "../vendor/preact.js";
import { faults, given, options, said, task, tried } from "../core/state.js";
import { optionsOf } from "../core/schema.js";
import { t } from "../core/texts.js";
import { axesOf, faultOf, MOST_CELLS, startSweep, titleOf } from "./sweep_grid.js";
import { around, numbersIn, spread } from "./sweep_values.js";

const FIRST = ["guidance_scale", "image_guidance_scale", "strength", "steps"]; // what is worth comparing most

/**
 * What stands in its window. No form of its own: it is within that of the composing column.
 * @param {{onClose: () => void}} props
 */
export function Sweep({ onClose }) {
  const axes = axesOf(task.value);
  const names = [...FIRST, ...axes.map(({ name }) => name)].filter((name) => axes.some((axis) => axis.name === name));
  const problem = useSignal("");
  const changed = () => (problem.value = "");
  const rows = useAxis(names[0], changed);
  const columns = useAxis([...new Set(names)][1] ?? "", changed);
  const count = (rows.values?.length ?? 0) * (columns.name ? (columns.values?.length ?? 0) : 1);

  const run = async () => {
    tried.value = true;
    said.value = {};
    problem.value = wrong(rows, columns, count) ?? "";
    if (problem.value) return;
    onClose();
    await startSweep(rows.axis, columns.name ? columns.axis : null);
  };
  const keys = (event) => {
    if (event.key !== "Enter" || event.target.matches("button")) return;
    event.preventDefault(); // it would send the form around this
    run();
  };
  return html`
    <div class="sweep-form" onKeyDown=${keys}>
      <p>${t("sweep.words")}</p>
      <${Axis} title=${t("sweep.rows")} axes=${axes} own=${rows} other=${columns.name} />
      <${Axis} title=${t("sweep.columns")} axes=${axes} own=${columns} other=${rows.name} mayBeNone />
      <p role="status" class=${problem.value ? "fault" : "hint"}>
        ${problem.value || t("sweep.count", { n: count, most: MOST_CELLS })}
      </p>
      <div class="row">
        <button type="button" class="primary" onClick=${run}>${t("sweep.run", { n: count })}</button>
        <button type="button" onClick=${onClose}>${t("action.cancel")}</button>
      </div>
    </div>
  `;
}

/** What is wrong, in words; null if nothing is. */
function wrong(rows, columns, count) {
  const used = columns.name ? [rows, columns] : [rows];
  for (const axis of used) {
    if (!axis.values) return t("sweep.noNumbers", { name: titleOf(task.value, axis.name) });
    if (!axis.values.length) return t("sweep.noValues", { name: titleOf(task.value, axis.name) });
  }
  if (count > MOST_CELLS) return t("sweep.tooMany", { n: count, most: MOST_CELLS });
  const [other] = Object.entries(faults.value).filter(([name]) => !used.some((axis) => axis.name === name));
  if (other) return other[1];
  return faultOf(task.value, given.value, rows.axis, columns.name ? columns.axis : null);
}

/** An axis that is being set up: its option, and what is written or ticked. */
function useAxis(first, onChange) {
  const state = useSignal(beginning(first));
  const { name, text, ticked } = state.value;
  const option = optionsOf(task.value).find((each) => each.name === name);
  const values = option?.enum ? ticked : numbersIn(text);
  const set = (news) => {
    state.value = { ...state.value, ...news };
    onChange();
  };
  return { name, text, ticked, option, values, axis: { name, values }, set, choose: (next) => set(beginning(next)) };
}

/** What an axis begins with: values around the one that is set now. */
function beginning(name) {
  const option = optionsOf(task.value).find((each) => each.name === name);
  if (!option) return { name: "", text: "", ticked: [] };
  const now = options.value[name] ?? option.default;
  if (option.enum) return { name, text: "", ticked: option.enum.includes(now) ? [now] : [] };
  return { name, text: around(now, option).join(", "), ticked: [] };
}

function Axis({ title, axes, own, other, mayBeNone }) {
  return html`
    <fieldset>
      <legend>${title}</legend>
      <label>
        <span>${t("sweep.option")}</span>
        <select value=${own.name} onChange=${(event) => own.choose(event.target.value)}>
          ${mayBeNone && html`<option value="">${t("controls.none")}</option>`}
          ${axes.map(
            ({ name }) =>
              html`<option key=${name} value=${name} disabled=${name === other}>${titleOf(task.value, name)}</option>`,
          )}
        </select>
      </label>
      ${own.option && (own.option.enum ? html`<${Choices} own=${own} />` : html`<${Numbers} own=${own} />`)}
    </fieldset>
  `;
}

function Choices({ own: { option, ticked, set } }) {
  const tick = (value, isOn) =>
    set({ ticked: option.enum.filter((each) => (each === value ? isOn : ticked.includes(each))) });
  return html`
    <div class="sweep-choices" role="group" aria-label=${t("sweep.values")}>
      ${option.enum.map(
        (value) => html`
          <label>
            <input type="checkbox" checked=${ticked.includes(value)}
              onChange=${({ target }) => tick(value, target.checked)} />
            ${value}
          </label>
        `,
      )}
    </div>
  `;
}

function Numbers({ own: { option, text, values, set } }) {
  const from = useSignal(values?.[0] ?? option.minimum ?? 0);
  const to = useSignal(values?.at(-1) ?? option.maximum ?? 1);
  const count = useSignal(3);
  const fill = () => set({ text: spread(from.value, to.value, count.value, option.type === "integer").join(", ") });
  const number = (signal, words, limits) => html`
    <label>
      <span>${t(words)}</span>
      <input type="number" step="any" value=${signal.value} ...${limits}
        onInput=${(event) => (signal.value = Number(event.target.value))} />
    </label>
  `;
  return html`
    <label>
      <span>${t("sweep.list")}</span>
      <input type="text" inputmode="decimal" value=${text} onInput=${(event) => set({ text: event.target.value })} />
    </label>
    <div class="sweep-spread" role="group" aria-label=${t("sweep.spread")}>
      ${number(from, "controls.from")} ${number(to, "controls.to")}
      ${number(count, "sweep.howMany", { min: 2, max: MOST_CELLS, step: 1 })}
      <button type="button" onClick=${fill}>${t("sweep.fill")}</button>
    </div>
  `;
}
