/** The options' controls, out of their JSON schema: those most used first, the others under "More" by group. */
import { html, useSignal } from "../vendor/preact.js";
import { optionsOf, schema } from "../core/schema.js";
import { faults, fieldOptions, fields, given, isTaken, setField, setOption, task } from "../core/state.js";
import { has, t } from "../core/texts.js";
import { Labelled, nameOf, spelled } from "./field.js";
import { Loras } from "./loras.js";
import { NumberInput } from "./number.js";
import { Seed } from "./seed.js";

const MOST_USED = ["steps", "guidance_scale", "image_guidance_scale", "strength", "seed"];

export function Controls() {
  const isOpen = useSignal(false);
  const all = optionsOf(task.value);
  const isShown = ({ group }) => group !== "Mask" || isTaken("mask");
  const main = MOST_USED.map((name) => all.find((option) => option.name === name)).filter(Boolean);
  const others = all.filter((option) => !main.includes(option) && isShown(option));
  const ofJobs = fieldOptions();
  const groups = Map.groupBy(others, ({ group }) => group);
  const isWrong = [...others, ...ofJobs].some(({ name }) => name in faults.value);
  return html`
    <div class="controls">${main.map((option) => html`<${Control} key=${option.name} option=${option} />`)}</div>
    <details open=${isOpen.value || isWrong} onToggle=${(event) => (isOpen.value = event.target.open)}>
      <summary>${t("controls.more")}</summary>
      ${[...groups].map(
        ([group, options]) => html`
          <fieldset class="controls" key=${group}>
            <legend>${has(`group.${group}`) ? t(`group.${group}`) : t("group.task")}</legend>
            ${options.map((option) => html`<${Control} key=${option.name} option=${option} />`)}
          </fieldset>
        `,
      )}
      ${schema.value?.loras.length > 0 && html`<${Loras} />`}
      <fieldset class="controls">
        <legend>${t("group.Job")}</legend>
        ${ofJobs.map((option) => html`<${Control} key=${option.name} option=${option} of=${fields} set=${setField} />`)}
      </fieldset>
    </details>
  `;
}

/** @param {{option: object, of?: object, set?: Function}} props `of` holds the values that were set */
function Control({ option, of = given, set = setOption }) {
  const value = of.value[option.name];
  const onSet = (next) => set(option.name, next);
  if (option.name === "seed") return html`<${Seed} option=${option} />`;
  const Kind = option.enum ? Choice : (KINDS[option.type] ?? Text);
  const onReset = value === undefined ? null : () => onSet(undefined);
  return html`
    <${Labelled} option=${option} fault=${faults.value[option.name]} onReset=${onReset}>
      ${(how) => html`<${Kind} option=${option} value=${value} onSet=${onSet} ...${how} />`}
    <//>
  `;
}

function Choice({ option, value, onSet, id, described }) {
  const words = (each) => (has(`choice.${option.name}.${each}`) ? t(`choice.${option.name}.${each}`) : each);
  return html`
    <select id=${id} ...${described} value=${value ?? ""} onChange=${({ target }) => onSet(target.value || undefined)}>
      <option value="">${option.default === null ? t("controls.none") : words(option.default)}</option>
      ${option.enum.filter((each) => each !== option.default).map((each) => html`<option value=${each}>${words(each)}</option>`)}
    </select>
  `;
}

/** A number, with a slider over the values that are usual: around the default, or all if those are few. */
function Numeric({ option, value, onSet, id, described }) {
  const isPreset = given.value.preset && value === undefined; // its values are the server's to know
  const low = option.minimum ?? 0;
  const high = Math.min(option.maximum ?? Infinity, Math.max(4 * (option.default ?? 0), low + 1));
  const step = option.type === "integer" ? 1 : high <= 1 ? 0.01 : 0.1;
  return html`
    <div class="row tight">
      ${option.default > 0 &&
      html`<input
        type="range"
        min=${low}
        max=${high}
        step=${step}
        aria-hidden="true"
        tabindex="-1"
        value=${Number.isFinite(value) ? value : option.default}
        onInput=${({ target }) => onSet(target.valueAsNumber)}
      />`}
      <${NumberInput}
        id=${id}
        ...${described}
        inputmode=${option.type === "integer" ? "numeric" : "decimal"}
        min=${option.minimum}
        max=${option.maximum}
        step=${option.type === "integer" ? 1 : "any"}
        placeholder=${isPreset ? given.value.preset : spelled(option.default)}
        value=${value ?? (isPreset ? undefined : (option.default ?? undefined))}
        onValue=${onSet}
      />
    </div>
  `;
}

/** A part of the way: two shares, from 0 to 1. */
function Window({ option, value, onSet, id, described }) {
  const [from, to] = value ?? option.default ?? [0, 1];
  const side = (words, own) => html`
    <label class="row tight">
      ${words}
      <${NumberInput} inputmode="decimal" min="0" max="1" step="0.05" aria-label=${`${nameOf(option)}: ${words}`} ...${own} />
    </label>
  `;
  return html`
    <div class="row">
      ${side(t("controls.from"), { id, ...described, value: from, onValue: (next = NaN) => onSet([next, to]) })}
      ${side(t("controls.to"), { value: to, onValue: (next = NaN) => onSet([from, next]) })}
    </div>
  `;
}

function Flag({ option, value, onSet, id, described }) {
  const isOn = value ?? option.default;
  return html`<input id=${id} ...${described} type="checkbox" checked=${isOn} onChange=${() => onSet(!isOn)} />`;
}

function Text({ option, value, onSet, id, described }) {
  const shown = value ?? option.default ?? "";
  return html`<input id=${id} ...${described} type="text" value=${shown} onInput=${({ target }) => onSet(target.value)} />`;
}

const KINDS = { integer: Numeric, number: Numeric, array: Window, boolean: Flag, string: Text };
