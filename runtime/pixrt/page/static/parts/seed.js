/** The seed: locked or drawn anew for every run, by dice, or one more. */
import { html } from "../vendor/preact.js";
import { byId, current } from "../core/history.js";
import { drawSeed, faults, options, seedLocked, setOption } from "../core/state.js";
import { t } from "../core/texts.js";
import { Labelled } from "./field.js";
import { Icon } from "./icon.js";
import { NumberInput } from "./number.js";

/** @param {{option: object}} props the schema's */
export function Seed({ option }) {
  const isLocked = seedLocked.value;
  const lock = (seed) => {
    setOption("seed", seed);
    seedLocked.value = seed !== undefined;
  };
  // What is locked first is the seed of the picture that is looked at: that is the one to keep.
  const shown = byId.value.get(current.value);
  const base = options.value.seed ?? (shown?.kind === "result" ? shown.seed : undefined);
  return html`
    <${Labelled} option=${option} fault=${faults.value.seed}>
      ${({ id, described }) => html`
        <div class="row tight">
          <${NumberInput}
            id=${id}
            ...${described}
            inputmode="numeric"
            min="0"
            step="1"
            placeholder=${t("seed.random")}
            value=${isLocked ? options.value.seed : undefined}
            onValue=${lock}
          />
          <button
            type="button"
            class="icon"
            aria-label=${t("seed.lock")}
            title=${t("seed.lock")}
            aria-pressed=${isLocked}
            onClick=${() => (isLocked ? lock(undefined) : lock(base ?? drawSeed()))}
          >
            <${Icon} name=${isLocked ? "lock" : "unlock"} />
          </button>
          <button type="button" class="icon" aria-label=${t("seed.dice")} title=${t("seed.dice")} onClick=${() => lock(drawSeed())}>
            <${Icon} name="dice" />
          </button>
          <button
            type="button"
            class="icon"
            aria-label=${t("seed.next")}
            title=${t("seed.next")}
            onClick=${() => lock((base ?? drawSeed() - 1) + 1)}
          >
            +1
          </button>
        </div>
      `}
    <//>
  `;
}
