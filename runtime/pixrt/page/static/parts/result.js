/** What can be done with the picture that is looked at, and how it was made. */
import { html, useSignal } from "../vendor/preact.js";
import { asCommand, asCurl, asPython, fileNameOf } from "../core/copying.js";
import { pictureOf } from "../core/history.js";
import { takeUp, vary } from "../core/repeating.js";
import { sources } from "../core/state.js";
import { t } from "../core/texts.js";
import { spelled } from "./field.js";
import { Icon } from "./icon.js";
import { PaintBack } from "./paint_back.js";
import { saveAs } from "./saving.js";

const COPIES = { command: asCommand, python: asPython, curl: asCurl };

/** @param {{entry: import("../core/history.js").Entry}} props */
export function Result({ entry }) {
  const isResult = entry.kind === "result";
  const edit = () => {
    sources.value = [entry.id];
    document.getElementById("prompt").focus();
  };
  return html`
    <section class="result" aria-label=${t("result.title")}>
      <div class="row">
        <button type="button" onClick=${edit}><${Icon} name="brush" />${t(isResult ? "result.editAgain" : "result.use")}</button>
        <button type="button" onClick=${() => download(entry)}><${Icon} name="download" />${t("result.download")}</button>
        ${isResult && html`<button type="button" onClick=${() => vary(entry, 4)}><${Icon} name="grid" />${t("result.variants")}</button>`}
        <${PaintBack} entry=${entry} />
      </div>
      ${entry.notes?.map((note) => html`<p class="small" role="note">${note}</p>`)}
      ${isResult && html`<${Parameters} entry=${entry} />`}
    </section>
  `;
}

function Parameters({ entry }) {
  const { parameters, width, height, lora, notice } = entry;
  const { notice: _, instruction, prompt, history, loras, ...rest } = parameters;
  const rows = Object.entries({ ...rest, seed: entry.seed }).filter(([, value]) => value !== null && value !== "");
  return html`
    <details>
      <summary>${t("result.parameters")}</summary>
      <p><q>${entry.prompt}</q></p>
      <dl class="parameters">
        <dt>${t("result.size")}</dt>
        <dd>${width} × ${height}</dd>
        ${lora.map(({ name, scale }) => html`<dt>LoRA ${name}</dt><dd>${scale}</dd>`)}
        ${rows.map(([name, value]) => html`<dt>${name}</dt><dd>${typeof value === "object" && !Array.isArray(value) ? JSON.stringify(value) : spelled(value)}</dd>`)}
      </dl>
      ${notice && html`<p class="small">${notice}</p>`}
      <div class="row">
        <button type="button" onClick=${() => takeUp(entry)}>
          <${Icon} name="reset" />${t("result.reuse")}
        </button>
        <${Copies} entry=${entry} />
      </div>
    </details>
  `;
}

/** The same picture asked for elsewhere: on the command line, in Python, by curl. */
function Copies({ entry }) {
  const shown = useSignal("");
  const note = useSignal("");
  const copy = async (name) => {
    const text = COPIES[name](entry);
    shown.value = text;
    note.value = await navigator.clipboard?.writeText(text).then(() => "result.copied", () => "") || "result.copyByHand";
  };
  return html`
    <span id="copy-as">${t("result.copy")}</span>
    <span class="row tight" role="group" aria-labelledby="copy-as">
      ${Object.keys(COPIES).map(
        (name) => html`<button type="button" key=${name} onClick=${() => copy(name)}>${t(`result.copy.${name}`)}</button>`,
      )}
    </span>
    ${shown.value && html`<pre tabindex="0"><code>${shown.value}</code></pre>`}
    <span class="small" role="status">${note.value && t(note.value)}</span>
  `;
}

async function download(entry) {
  saveAs(await pictureOf(entry.id), fileNameOf(entry));
}
