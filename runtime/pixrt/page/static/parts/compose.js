/** What is asked for: the task, its pictures, the instruction, how, and the button that sends it. */
import { html, useEffect, useRef, useSignal } from "../vendor/preact.js";
import { isFaulty, run } from "../core/running.js";
import { loadSchema, schema } from "../core/schema.js";
import { count, faults, heard, prompt, task } from "../core/state.js";
import { t } from "../core/texts.js";
import { Controls } from "./controls.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icon.js";
import { troubles } from "./problem.js";
import { Source } from "./source.js";
import { Sweep } from "./sweep.js";

const COUNTS = [1, 2, 4];
const NARROW = "(max-width: 45rem)"; // there the picture is beneath

export function Compose() {
  const onSubmit = (event) => {
    event.preventDefault();
    runAndShow();
  };
  return html`
    <form onSubmit=${onSubmit} noValidate>
      <${Tasks} />
      <${Source} />
      <${Instruction} />
      ${schema.value ? html`<${Controls} />` : html`<p class="hint">${t("app.loading")}</p>`}
      ${schema.value && html`<p class="small">${schema.value.model.notice}</p>`}
      <${Run} />
    </form>
  `;
}

/** Send what is composed; if it is not fit for that, go to the first field that is not. */
export async function runAndShow() {
  if (!schema.value) return loadSchema().catch(troubles.add);
  const sent = run();
  if (!isFaulty() && matchMedia(NARROW).matches) document.getElementById("picture").scrollIntoView();
  await sent;
  if (!isFaulty()) return;
  requestAnimationFrame(() => {
    const field = document.querySelector(".compose [aria-invalid=true]") ?? document.querySelector(".compose .fault");
    field?.scrollIntoView({ block: "center" });
    field?.focus?.();
  });
}

function Tasks() {
  const names = Object.keys(schema.value?.tasks ?? {});
  if (names.length < 2) return null;
  return html`
    <fieldset class="tasks">
      <legend class="visually-hidden">${t("task.label")}</legend>
      ${names.map(
        (name) => html`
          <label key=${name} title=${t(`task.${name}.hint`)}>
            <input type="radio" name="task" value=${name} checked=${task.value === name} onChange=${() => (task.value = name)} />
            <span>${t(`task.${name}`)}</span>
          </label>
        `,
      )}
    </fieldset>
  `;
}

function Instruction() {
  const area = useRef(null);
  const fault = faults.value.prompt;
  const set = (text) => {
    prompt.value = text;
    heard("prompt");
  };
  useEffect(() => {
    area.current.style.height = "auto";
    area.current.style.height = `${area.current.scrollHeight + 2}px`;
  }, [prompt.value]);
  const { tasks = {}, model } = schema.value ?? {};
  const isInstructed = !("edit" in tasks) || ["edit", "style"].includes(task.value); // examples are instructions
  const examples = (isInstructed && model?.examples) || [];
  return html`
    <div class=${`field ${fault ? "wrong" : ""}`}>
      <label for="prompt">${t(`prompt.${task.value}`)}</label>
      <textarea
        id="prompt"
        name="prompt"
        rows="2"
        ref=${area}
        aria-invalid=${fault ? "true" : undefined}
        aria-describedby=${fault ? "prompt-fault" : undefined}
        value=${prompt.value}
        onInput=${(event) => set(event.target.value)}
      ></textarea>
      ${fault && html`<p class="fault" id="prompt-fault">${fault}</p>`}
      ${examples.length > 0 &&
      html`<ul class="chips" aria-label=${t("prompt.examples")}>
        ${examples.map(
          (words) => html`
            <li key=${words}><button type="button" class="chip" onClick=${() => set(words)}>${words}</button></li>
          `,
        )}
      </ul>`}
    </div>
  `;
}

function Run() {
  const isGrid = useSignal(false);
  const close = () => (isGrid.value = false);
  return html`
    <div class="run">
      ${Object.keys(faults.value).length > 0 && html`<p class="fault" role="alert">${t("run.faults")}</p>`}
      <div class="row">
        <button class="primary" aria-keyshortcuts="Control+Enter">${t(`run.${task.value}`)}</button>
        <select
          aria-label=${t("run.count")}
          value=${count.value}
          onChange=${({ target }) => (count.value = Number(target.value))}
        >
          ${COUNTS.map((n) => html`<option value=${n}>${t("run.count", { n })}</option>`)}
        </select>
        <button type="button" class="icon" aria-label=${t("run.grid")} title=${t("run.grid")} onClick=${() => (isGrid.value = true)}>
          <${Icon} name="grid" />
        </button>
      </div>
      ${isGrid.value && html`<${Dialog} title=${t("run.grid")} wide onClose=${close}><${Sweep} onClose=${close} /><//>`}
    </div>
  `;
}
