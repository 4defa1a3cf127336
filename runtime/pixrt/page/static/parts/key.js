/** Asks for the API key when the server wants one. */
import { html, useSignal } from "../vendor/preact.js";
import { key, locked } from "../core/api.js";
import { t } from "../core/texts.js";
import { Dialog } from "./dialog.js";

export function KeyDialog() {
  const given = useSignal("");
  if (!locked.value) return null;
  const onSubmit = (event) => {
    event.preventDefault();
    if (!given.value.trim() || given.value.trim() === key.value) return;
    locked.value = false;
    key.value = given.value.trim();
    given.value = "";
  };
  return html`
    <${Dialog} title=${t("key.title")} onClose=${() => (locked.value = false)}>
      <form onSubmit=${onSubmit}>
        <p>${t("key.words")}</p>
        ${key.value && html`<p class="fault" role="alert">${t("key.wrong")}</p>`}
        <label class="field">
          ${t("header.key")}
          <input
            type="password"
            autocomplete="off"
            required
            value=${given.value}
            onInput=${(event) => (given.value = event.target.value)}
          />
        </label>
        <div class="foot"><button class="primary">${t("key.use")}</button></div>
      </form>
    <//>
  `;
}
