/** The LoRAs that the server offers: which are used, and how strongly. */
import { html } from "../vendor/preact.js";
import { schema } from "../core/schema.js";
import { faults, heard, loras } from "../core/state.js";
import { t } from "../core/texts.js";
import { NumberInput } from "./number.js";

export function Loras() {
  const set = (name, scale) => {
    const others = loras.value.filter((each) => each.name !== name);
    loras.value = scale === null ? others : [...others, { name, scale }];
    heard("lora");
  };
  return html`
    <fieldset class="controls loras">
      <legend>${t("group.Lora")}</legend>
      ${schema.value.loras.map((name) => {
        const used = loras.value.find((each) => each.name === name);
        return html`
          <div class="row" key=${name}>
            <label class="check">
              <input type="checkbox" checked=${Boolean(used)} onChange=${() => set(name, used ? null : 1)} />
              ${name}
            </label>
            ${used &&
            html`<${NumberInput}
              step="0.05"
              aria-label=${t("lora.scale", { name })}
              value=${used.scale}
              onValue=${(scale) => Number.isFinite(scale) && set(name, scale)}
            />`}
          </div>
        `;
      })}
      ${faults.value.lora && html`<p class="fault">${faults.value.lora}</p>`}
    </fieldset>
  `;
}
