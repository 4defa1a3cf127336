/** The top: which model this is and what it says of itself, and the settings. */
import { html, useSignal } from "../vendor/preact.js";
import { key } from "../core/api.js";
import { clear } from "../core/history.js";
import { cancel, isMoving, jobs } from "../core/jobs.js";
import { schema } from "../core/schema.js";
import { dropDraft } from "../core/state.js";
import { language, LANGUAGES, setLanguage, span, t } from "../core/texts.js";
import { setTheme, theme, THEMES } from "../core/theme.js";
import { Dialog } from "./dialog.js";
import { Icon } from "./icon.js";

export function Header() {
  const opened = useSignal(null);
  const close = () => (opened.value = null);
  const model = schema.value?.model;
  return html`
    <header class="top">
      <h1>pixrt</h1>
      <button type="button" class="plain model" disabled=${!model} onClick=${() => (opened.value = "model")}>
        <span class="visually-hidden">${t("header.about")}: </span>${model?.id ?? t("app.loading")}
      </button>
      <button type="button" class="plain icon" aria-label=${t("header.settings")} onClick=${() => (opened.value = "settings")}>
        <${Icon} name="settings" />
      </button>
      ${opened.value === "model" && html`<${Model} model=${model} onClose=${close} />`}
      ${opened.value === "settings" && html`<${Settings} onClose=${close} onClear=${() => (opened.value = "clear")} />`}
      ${opened.value === "clear" && html`<${Clear} onClose=${close} />`}
    </header>
  `;
}

function Model({ model, onClose }) {
  const tasks = model.tasks.map((name) => t(`task.${name}`)).join(", ");
  return html`
    <${Dialog} title=${`${t("header.model")}: ${model.id}`} onClose=${onClose}>
      <p>${model.notice}</p>
      <p>${t("header.offers", { tasks, size: model.native_resolution })}</p>
      <p class="small">${model.backend} · ${model.precision} · SHA-256 <code>${model.sha256}</code></p>
    <//>
  `;
}

function Settings({ onClose, onClear }) {
  const kept = schema.value?.result_seconds;
  return html`
    <${Dialog} title=${t("header.settings")} onClose=${onClose}>
      <label class="field">
        ${t("header.language")}
        <select value=${language.value} onChange=${(event) => setLanguage(event.target.value)}>
          ${Object.entries(LANGUAGES).map(([name, words]) => html`<option value=${name} lang=${name}>${words}</option>`)}
        </select>
      </label>
      <label class="field">
        ${t("header.theme")}
        <select value=${theme.value} onChange=${(event) => setTheme(event.target.value)}>
          ${THEMES.map((name) => html`<option value=${name}>${t(`theme.${name}`)}</option>`)}
        </select>
      </label>
      <label class="field">
        ${t("header.key")}
        <input
          type="password"
          autocomplete="off"
          value=${key.value}
          onChange=${(event) => (key.value = event.target.value.trim())}
        />
      </label>
      ${kept && html`<p class="small">${t("header.stored", { span: span(kept) })}</p>`}
      <p class="small">${t("header.shortcuts")}</p>
      <div class="foot"><button type="button" class="danger" onClick=${onClear}>${t("header.clear")}</button></div>
    <//>
  `;
}

function Clear({ onClose }) {
  const onClear = async () => {
    await Promise.all(jobs.value.filter(isMoving).map(cancel));
    await clear();
    dropDraft();
    location.reload();
  };
  return html`
    <${Dialog} title=${t("clear.title")} onClose=${onClose}>
      <p>${t("clear.words")}</p>
      <div class="foot">
        <button type="button" onClick=${onClose}>${t("action.cancel")}</button>
        <button type="button" class="danger" onClick=${onClear}>${t("clear.do")}</button>
      </div>
    <//>
  `;
}
