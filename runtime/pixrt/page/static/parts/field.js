/** A control with its label in plain words, its usual name, a hint, a way back to its default, and what is wrong. */
import { html, useId } from "../vendor/preact.js";
import { has, t } from "../core/texts.js";
import { Icon } from "./icon.js";

/** An option in plain words, or as the schema calls it. */
export const nameOf = (option) => (has(`option.${option.name}`) ? t(`option.${option.name}`) : option.title);

/**
 * @param {object} props
 * @param {object} props.option the schema's
 * @param {string} [props.fault] what is wrong, in words
 * @param {() => void} [props.onReset] if it differs from its default
 * @param {(how: {id: string, described: object}) => unknown} props.children draws the control: `described` are its
 *   attributes for those who do not see
 */
export function Labelled({ option, fault, onReset, children }) {
  const id = useId();
  const words = nameOf(option);
  const hint = has(`hint.${option.name}`) ? t(`hint.${option.name}`) : option.description;
  const described = {
    name: option.name,
    "aria-invalid": fault ? "true" : undefined,
    "aria-describedby": `${id}-hint${fault ? ` ${id}-fault` : ""}`,
  };
  return html`
    <div class=${`field ${fault ? "wrong" : ""}`}>
      <div class="label">
        <label for=${id}>${words} ${words !== option.title && html`<small>${option.title}</small>`}</label>
        ${onReset &&
        html`<button
          type="button"
          class="plain icon small"
          aria-label=${`${words}: ${t("action.reset", { value: spelled(option.default) })}`}
          title=${t("action.reset", { value: spelled(option.default) })}
          onClick=${onReset}
        >
          <${Icon} name="reset" />
        </button>`}
      </div>
      ${children({ id, described })}
      <p class="hint" id=${`${id}-hint`}>${hint}</p>
      ${fault && html`<p class="fault" id=${`${id}-fault`}>${fault}</p>`}
    </div>
  `;
}

/** A value for people. */
export function spelled(value) {
  if (value === null || value === "" || value === undefined) return "–";
  return Array.isArray(value) ? value.join(" – ") : String(value);
}
