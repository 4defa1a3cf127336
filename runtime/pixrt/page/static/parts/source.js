/** The pictures to be edited, in order: dropped, pasted, chosen or photographed. */
import { html, useEffect, useRef, useSignal } from "../vendor/preact.js";
import { bring, bringStyle, remembered, takeOver } from "../core/bringing.js";
import { byId, select } from "../core/history.js";
import { useBlobUrl, useUrl } from "../core/hooks.js";
import { faults, isTaken, sources, style } from "../core/state.js";
import { t } from "../core/texts.js";
import { Icon } from "./icon.js";
import { Mask } from "./mask.js";
import { troubles } from "./problem.js";

const SAID = 10_000; // milliseconds for which it is said that something is done

const take = (files, options) => bring([...files], options).catch(troubles.add);

export function Source() {
  const isOver = useDropped();
  const found = sources.value.map((id) => byId.value.get(id)).filter(Boolean);
  const isEmpty = !found.length;
  return html`
    ${isOver && html`<div class="dropping" aria-hidden="true"><p>${t("source.dropping")}</p></div>`}
    ${isTaken("image") &&
    html`<section class=${`source ${isEmpty ? "empty" : ""}`} aria-label=${t("source.title")}>
      ${isEmpty && html`<p>${t("source.drop")}</p>`}
      ${found.length > 0 &&
      html`<ol class="thumbs">
        ${found.map((entry, index) => html`<${Thumb} key=${entry.id} entry=${entry} index=${index} of=${found.length} />`)}
      </ol>`}
      <div class="row">
        <${Files} icon="picture" multiple words=${t("source.choose")} onFiles=${(files) => take(files)} />
        ${!isEmpty &&
        html`<${Files} icon="add" multiple words=${t("source.add")} onFiles=${(files) => take(files, { isMore: true })} />`}
        <${Files} icon="camera" capture="environment" words=${t("source.photograph")} onFiles=${(files) => take(files)} />
      </div>
      ${found.length > 1 && html`<p class="hint">${t("source.several")}</p>`}
      ${isEmpty && html`<p class="hint">${t("source.sent")}</p>`}
      ${faults.value.image && html`<p class="fault" data-field="image">${faults.value.image}</p>`}
    </section>`}
    <${Remembered} />
    ${isTaken("mask") && html`<${Mask} />`}
    ${faults.value.mask && html`<p class="fault" data-field="mask">${faults.value.mask}</p>`}
    ${isTaken("style") && html`<${Style} />`}
  `;
}

/** A button that asks for files. */
function Files({ icon, words, onFiles, ...attributes }) {
  const input = useRef(null);
  const onChange = ({ target }) => {
    onFiles([...target.files]);
    target.value = "";
  };
  return html`
    <button type="button" onClick=${() => input.current.click()}><${Icon} name=${icon} />${words}</button>
    <input
      class="visually-hidden"
      type="file"
      accept="image/*"
      tabindex="-1"
      aria-label=${words}
      ref=${input}
      onChange=${onChange}
      ...${attributes}
    />
  `;
}

function Thumb({ entry, index, of }) {
  const { id, name, width, height } = entry;
  const url = useUrl("thumb", id);
  const words = name || entry.prompt;
  const move = (by) => {
    const order = sources.value.filter((each) => each !== id);
    order.splice(index + by, 0, id);
    sources.value = order;
  };
  const button = (icon, label, onClick) => html`
    <button type="button" class="plain icon small" aria-label=${t(label, { name: words })} onClick=${onClick}>
      <${Icon} name=${icon} />
    </button>
  `;
  return html`
    <li>
      <button type="button" class="plain picture" onClick=${() => select(id)}>
        ${url && html`<img src=${url} alt=${words} width=${width} height=${height} />`}
      </button>
      <span class="small">${of > 1 && `${index + 1}. `}${words} <small>${width} × ${height}</small></span>
      <span>
        ${index > 0 && button("left", "source.earlier", () => move(-1))}
        ${index < of - 1 && button("right", "source.later", () => move(1))}
        ${button("close", "source.remove", () => (sources.value = sources.value.filter((each) => each !== id)))}
      </span>
    </li>
  `;
}

/** A picture that says how it was made offers that. */
function Remembered() {
  const note = useSignal("");
  const found = remembered.value;
  const onTake = () => {
    const left = takeOver();
    note.value = left.length ? t("restore.left", { names: left.join(", ") }) : t("restore.done");
    setTimeout(() => (note.value = ""), SAID);
  };
  return html`
    <div role="status">
      ${found &&
      html`<div class="offer">
        <p><strong>${t("restore.title")}</strong></p>
        <p>${t("restore.words", { prompt: found.prompt })}</p>
        <p class="row">
          <button type="button" onClick=${onTake}>${t("restore.do")}</button>
          <button type="button" class="plain" onClick=${() => (remembered.value = null)}>${t("action.dismiss")}</button>
        </p>
      </div>`}
      ${!found && note.value && html`<p class="hint">${note.value}</p>`}
    </div>
  `;
}

function Style() {
  const url = useBlobUrl(style.value);
  const onFiles = ([file]) => {
    try {
      if (file) bringStyle(file);
    } catch (error) {
      troubles.add(error);
    }
  };
  return html`
    <section class="source" aria-label=${t("source.style")}>
      ${url && html`<img class="style-picture" src=${url} alt=${t("source.style")} />`}
      <div class="row"><${Files} icon="picture" words=${t("source.style.choose")} onFiles=${onFiles} /></div>
      ${faults.value.style && html`<p class="fault" data-field="style">${faults.value.style}</p>`}
    </section>
  `;
}

/** Take what is dropped on the page or pasted; tells whether something is held over it. */
function useDropped() {
  const isOver = useSignal(false);
  useEffect(() => {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files") && !document.querySelector("dialog[open]");
    const handlers = {
      dragover: (event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        isOver.value = true;
      },
      dragleave: (event) => event.relatedTarget ?? (isOver.value = false),
      drop: (event) => {
        isOver.value = false;
        if (!hasFiles(event)) return;
        event.preventDefault();
        take(event.dataTransfer.files);
      },
      paste: ({ clipboardData, target }) => {
        const isText = clipboardData.types.includes("text/plain") && target.matches("input, textarea");
        const isOurs = clipboardData.files.length && !document.querySelector("dialog[open]");
        if (isOurs && !isText) take(clipboardData.files); // what comes from a table is both
      },
    };
    for (const [name, handler] of Object.entries(handlers)) addEventListener(name, handler);
    return () => Object.entries(handlers).forEach(([name, handler]) => removeEventListener(name, handler));
  }, []);
  return isOver.value;
}
