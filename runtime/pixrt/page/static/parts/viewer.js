// The picture: before and after under a divider, side by side, or as a difference; magnified; any two of the history.
import { html, signal, useEffect, useMemo, useSignal } from "../vendor/preact.js";
import { entries } from "../core/history.js";
import { language, t } from "../core/texts.js";
import { chosen, labelOf, madeBy, pair, useAddress } from "./comparison.js";
import { Difference } from "./difference.js";
import { Icon } from "./icon.js";
import { show, transformOf, useZooming, view, zoomBy, zoomKey } from "./zooming.js";

const PIXELS = 3; // of the screen for one of a picture, from which on they are shown as squares
const MODES = ["slider", "side", "difference"];

/** How two pictures are shown. */
export const mode = signal("slider");
const divider = signal(50); // percent of the width that shows the picture before

/** The current entry, beside what it was made of, or any two. Nothing if there is no picture. */
export function Viewer() {
  const { before, after } = pair.value;
  const size = after && `${after.width}x${after.height}`;
  useEffect(() => show({ scale: 1, x: 0, y: 0 }), [size]);
  if (!after) return null;
  const shown = before ? mode.value : "single";
  return html`
    <section class="viewer" aria-label=${t("viewer.title")} data-mode=${shown}>
      <div class="viewer-bar">${before && html`<${Modes} />`} <${Zoom} /></div>
      <div class="viewer-figures">
        ${shown === "side" && html`<${Figure} letter="A" entry=${before}><${Pane} entry=${before} /><//>`}
        <${Figure} letter=${before && "B"} entry=${after} before=${shown === "side" ? null : before}>
          ${
            shown === "side" || shown === "single"
              ? html`<${Pane} entry=${after} />`
              : html`<${Both} before=${before} after=${after} isDifference=${shown === "difference"} />`
          }
        <//>
      </div>
      ${entries.value.length > 1 && html`<${Choose} />`}
    </section>
  `;
}

function Modes() {
  return html`
    <div class="row" role="group" aria-label=${t("viewer.mode")}>
      ${MODES.map(
        (name) => html`
          <button type="button" aria-pressed=${mode.value === name} onClick=${() => (mode.value = name)}>
            ${t(`viewer.${name}`)}
          </button>
        `,
      )}
    </div>
  `;
}

function Zoom() {
  const percent = Math.round(100 * view.value.scale);
  const button = (name, factor, words) => {
    const label = t(name, { percent });
    return html`
      <button type="button" aria-label=${label} title=${label} onClick=${() => zoomBy(factor)}>${words}</button>
    `;
  };
  return html`
    <div class="row" role="group" aria-label=${t("viewer.zoom")}>
      ${button("viewer.zoomOut", 0.8, "−")} ${button("viewer.zoomFit", 0, `${percent} %`)}
      ${button("viewer.zoomIn", 1.25, "+")}
    </div>
  `;
}

/** A picture, or two over one another, with what they are; and that they are a model's. */
function Figure({ letter, entry, before, children }) {
  const line = (each, name) => html`
    <p>
      ${name && html`<strong>${name}</strong>`} <span>${labelOf(each)}</span>
      ${madeBy(each) && html`<span class="made">${madeBy(each)}</span>`}
    </p>
  `;
  return html`
    <figure class="viewer-figure">
      ${children}
      <figcaption>${before && line(before, "A")} ${line(entry, letter)}</figcaption>
    </figure>
  `;
}

/** A frame in which pictures can be magnified. */
function Frame({ entry, children }) {
  const { frame, ghost } = useZooming();
  const keys = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target !== event.currentTarget && event.key.startsWith("Arrow")) return; // the divider's
    if (zoomKey(event.key)) event.preventDefault();
  };
  const style = { "--ratio": entry.width / entry.height, aspectRatio: `${entry.width} / ${entry.height}` };
  const isClose = view.value.scale > 1;
  return html`
    <div class="viewer-frame${isClose ? " close" : ""}" ref=${frame} style=${style} tabindex="0" role="group"
      aria-label=${t("viewer.frame")} onKeyDown=${keys}>
      <div class="viewer-ghost" ref=${ghost}></div>
      ${children}
    </div>
  `;
}

function Pane({ entry }) {
  return html`<${Frame} entry=${entry}><${Picture} entry=${entry} alt=${labelOf(entry)} /><//>`;
}

/** Two pictures in one frame, under a divider or as their difference. */
function Both({ before, after, isDifference }) {
  const at = divider.value;
  if (isDifference) {
    const frame = (shown) => html`<${Frame} entry=${after}>${shown}<//>`;
    return html`<${Difference} before=${before} after=${after} frame=${frame} />`;
  }
  const words = t("viewer.dividerAt", { percent: at });
  return html`
    <${Frame} entry=${after}>
      <${Picture} entry=${before} alt=${`A: ${labelOf(before)}`} clip=${`inset(0 ${100 - at}% 0 0)`} />
      <${Picture} entry=${after} alt=${`B: ${labelOf(after)}`} clip=${`inset(0 0 0 ${at}%)`} />
      <div class="viewer-line" style=${{ left: `${at}%` }}>
        <span class="viewer-knob"><${Icon} name="left" /><${Icon} name="right" /></span>
      </div>
      <input type="range" class="viewer-divider panzoom-exclude" min="0" max="100" value=${at}
        aria-label=${t("viewer.divider")} aria-valuetext=${words}
        onInput=${({ target }) => (divider.value = Number(target.value))} />
    <//>
  `;
}

function Picture({ entry, alt, clip = "none" }) {
  const address = useAddress(entry.id);
  const enlarged = useSignal(1);
  const look = (event) => (enlarged.value = event.target.clientWidth / event.target.naturalWidth);
  const isPixelated = enlarged.value * view.value.scale > PIXELS;
  return html`
    <div class="viewer-layer" style=${{ clipPath: clip }}>
      ${
        address &&
        html`<img src=${address} alt=${alt} draggable=${false} onLoad=${look} class=${isPixelated ? "pixelated" : ""}
        style=${{ transform: transformOf(view.value) }} />`
      }
    </div>
  `;
}

/** Any two entries, by two lists. */
function Choose() {
  const isChosen = chosen.a.value || chosen.b.value;
  const reset = () => (chosen.a.value = chosen.b.value = null);
  return html`
    <div class="viewer-choose" role="group" aria-label=${t("viewer.compare")}>
      <${List} name="a" automatic="viewer.aAutomatic" /> <${List} name="b" automatic="viewer.bAutomatic" />
      ${isChosen && html`<button type="button" onClick=${reset}>${t("viewer.compareEnd")}</button>`}
    </div>
  `;
}

function List({ name, automatic }) {
  const option = (entry) => html`<option key=${entry.id} value=${entry.id}>${labelOf(entry)}</option>`;
  const options = useMemo(() => entries.value.map(option), [entries.value, language.value]); // many, seldom others
  return html`
    <label>
      <span>${t(`viewer.${name}`)}</span>
      <select value=${chosen[name].value ?? ""} onChange=${({ target }) => (chosen[name].value = target.value || null)}>
        <option value="">${t(automatic)}</option>
        ${options}
      </select>
    </label>
  `;
}
