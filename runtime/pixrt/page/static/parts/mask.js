// What may change: a mask of the first source, painted or loaded; and what a mask is for.
import { effect, html, useEffect, useSignal } from "../vendor/preact.js";
import { byId, pictureUrl } from "../core/history.js";
import { useBlobUrl } from "../core/hooks.js";
import { schema } from "../core/schema.js";
import { heard, mask, maskMode, sources, task } from "../core/state.js";
import { t } from "../core/texts.js";
import { MaskEditor } from "./mask_editor.js";
import { MaskFile } from "./mask_file.js";
import { readMask, sizeOfPng } from "./canvases.js";
import { Painting } from "./painting.js";
import { saveAs } from "./saving.js";

/** The tasks that a mask is for, as far as the server has them. */
function modes() {
  const takes = ({ needs = [], may_have = [] } = {}) => [...needs, ...may_have].includes("mask");
  return ["edit", "inpaint"].filter((name) => takes(schema.value?.tasks[name]));
}

/** A part of the composing column: shows the mask, and opens the window to paint it. */
export function Mask() {
  const entry = byId.value.get(sources.value[0]);
  const opened = useSignal(null); // what the window begins with
  const note = useSignal("");
  const blob = mask.value;
  useEffect(() => void (entry && blob && dropIfOther(entry, blob, note)), [entry?.id, blob]);
  const possible = modes();
  const isOfTask = possible.includes(task.value) || (task.value === "img2img" && possible.includes("inpaint"));
  if (!entry || !isOfTask) return null;
  const without = schema.value.tasks[task.value].needs.includes("mask") ? "mask.needed" : "mask.all";

  const take = async (painting) => {
    heard("mask");
    mask.value = await painting.toMask();
    if (mask.value && !possible.includes(task.value)) setMode("inpaint");
  };
  const load = async (found) => {
    const painting = new Painting(document.createElement("canvas"), entry.width, entry.height, "#fff");
    painting.load(found);
    await take(painting);
    if (!mask.value) note.value = t("mask.empty");
  };
  const open = async () => {
    note.value = "";
    opened.value = { picture: await pictureUrl(entry.id), start: blob && (await readMask(blob)) };
  };
  const remove = () => {
    mask.value = null;
    note.value = "";
  };
  return html`
    <section class="mask-part" aria-label=${t("mask.title")}>
      ${blob && html`<${Preview} blob=${blob} onOpen=${open} />`}
      <div class="mask-part-actions">
        <div class="row">
          <button type="button" onClick=${open}>${t(blob ? "mask.change" : "mask.paint")}</button>
          <${MaskFile} width=${entry.width} height=${entry.height} note=${note} onMask=${load} />
          ${blob && html`<button type="button" onClick=${() => saveAs(blob, "mask.png")}>${t("mask.save")}</button>`}
          ${blob && html`<button type="button" onClick=${remove}>${t("mask.remove")}</button>`}
        </div>
        <p class="hint" role="status">${note.value || t(blob ? "mask.whiteChanges" : without)}</p>
        ${blob && task.value === "edit" && sources.value.length > 1 && html`<p class="hint">${t("mask.first")}</p>`}
        ${blob && possible.length > 1 && html`<${Mode} possible=${possible} />`}
      </div>
      ${
        opened.value &&
        html`<${MaskEditor} title=${t("mask.title")} ...${opened.value} width=${entry.width} height=${entry.height}
        onDone=${take} onClose=${() => (opened.value = null)} />`
      }
    </section>
  `;
}

function setMode(name) {
  maskMode.value = name;
  task.value = name;
}

function Mode({ possible }) {
  return html`
    <fieldset class="mask-mode">
      <legend>${t("mask.for")}</legend>
      ${possible.map(
        (name) => html`
          <label>
            <input type="radio" name="mask-mode" checked=${task.value === name} onChange=${() => setMode(name)} />
            ${t(`mask.for.${name}`)}
          </label>
        `,
      )}
    </fieldset>
  `;
}

function Preview({ blob, onOpen }) {
  const url = useBlobUrl(blob);
  return html`
    <button type="button" class="mask-thumb" onClick=${onOpen} aria-label=${t("mask.change")}>
      ${url && html`<img src=${url} alt=${t("mask.preview")} />`}
    </button>
  `;
}

let owner = null; // the source that the mask is of, itself or what was made of it
const others = new Map(); // masks of other sources

// Every source has a mask of its own, which what was made of it has too: an edit of an edit is of the same part. At
// once, since who takes up an earlier edit sets its source, and then its mask.
effect(() => {
  let root = byId.value.get(sources.value[0]);
  if (!root) return;
  while (byId.value.has(root.parent)) root = byId.value.get(root.parent);
  if (owner !== null && owner !== root.id) {
    others.set(owner, mask.peek());
    mask.value = others.get(root.id) ?? null;
  }
  owner = root.id;
});

/** A mask belongs to pictures of its size: another source drops it. */
async function dropIfOther(entry, blob, note) {
  const size = await sizeOfPng(blob);
  if (mask.value !== blob || (size.width === entry.width && size.height === entry.height)) return;
  mask.value = null;
  note.value = t("mask.dropped");
}
