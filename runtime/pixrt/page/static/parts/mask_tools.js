// The tools of the mask's window, as buttons and sliders.
import { html } from "../vendor/preact.js";
import { t } from "../core/texts.js";
import { Icon } from "./icon.js";
import { MaskFile } from "./mask_file.js";

export const COLOURS = ["#ff2d78", "#00a8ff", "#2fd14a", "#ffd400"];

/** See `MaskEditor`, whose signals and functions these are. */
export function MaskTools(props) {
  const { tool, size, opacity, painting, steps, note, act, width, height, hasColour } = props;
  const can = (name) => steps.value > 0 && painting.current[name];
  const button = (name) => html`<button type="button" onClick=${() => act(name)}>${t(`mask.${name}`)}</button>`;
  const drawn = (name, disabled) => html`
    <button type="button" class="icon" disabled=${disabled} onClick=${() => act(name)} aria-label=${t(`mask.${name}`)}
      title=${t(`mask.${name}`)}><${Icon} name=${name} /></button>
  `;
  const slide = (signal) => (event) => (signal.value = Number(event.target.value));
  return html`
    <div class="mask-tools">
      <div class="row" role="group" aria-label=${t("mask.tool")}>
        ${["brush", "eraser"].map(
          (name) => html`
            <button type="button" aria-pressed=${tool.value === name} onClick=${() => (tool.value = name)}>
              ${t(`mask.${name}`)}
            </button>
          `,
        )}
      </div>
      <label class="mask-range">
        ${t("mask.size", { size: size.value })}
        <input type="range" min="1" max=${Math.max(width, height)} value=${size.value} onInput=${slide(size)} />
      </label>
      <div class="row">
        ${drawn("undo", !can("canUndo"))} ${drawn("redo", !can("canRedo"))} ${button("invert")} ${button("fill")}
        ${button("clear")} <${MaskFile} ...${{ width, height, note }} onMask=${(found) => act("load", found)} />
      </div>
      <${Zoom} ...${props} />
      ${hasColour && html`<${Colour} ...${props} />`}
      <label class="mask-range">
        ${t("mask.opacity")}
        <input type="range" min="0.1" max="1" step="0.05" value=${opacity.value} onInput=${slide(opacity)} />
      </label>
    </div>
  `;
}

function Zoom({ view }) {
  const zoom = view.zoom.value;
  const percent = Math.round(100 * zoom);
  const button = (name, factor, disabled, words) => html`
    <button type="button" aria-label=${t(`mask.${name}`, { percent })} disabled=${disabled}
      onClick=${() => view.zoomTo(zoom * factor)}>
      ${words}
    </button>
  `;
  return html`
    <div class="row" role="group" aria-label=${t("mask.zoom")}>
      ${button("zoomOut", 1 / 1.5, zoom <= 1, "−")} ${button("zoomFit", 0, false, `${percent} %`)}
      ${button("zoomIn", 1.5, zoom >= view.most, "+")}
    </div>
  `;
}

function Colour({ colour, act }) {
  const choose = (value) => {
    colour.value = value;
    act("setPaint", value);
  };
  return html`
    <fieldset class="mask-colours">
      <legend>${t("mask.colour")}</legend>
      ${COLOURS.map(
        (each, at) => html`
          <input type="radio" name="mask-colour" checked=${colour.value === each} onChange=${() => choose(each)}
            aria-label=${t(`mask.colour${at + 1}`)} style=${{ backgroundColor: each }} />
        `,
      )}
    </fieldset>
  `;
}
