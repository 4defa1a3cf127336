/** What went wrong, in words, with what can be done about it. */
import { html, signal } from "../vendor/preact.js";
import { nextTry, reached, tryNow } from "../core/api.js";
import { useClock } from "../core/hooks.js";
import { again, dismiss, jobs } from "../core/jobs.js";
import { forgetful } from "../core/store.js";
import { has, span, t } from "../core/texts.js";

/** Problems that belong to no job: call `troubles.add(error)`. */
export const troubles = signal([]);
troubles.add = (error) => (troubles.value = [...troubles.value.filter(({ message }) => message !== error.message), error]);

/** The server is not there, or the browser keeps nothing: said at the top for as long as it is so. */
export function Banner() {
  useClock(!reached.value);
  const wait = (nextTry.value - Date.now()) / 1000;
  const words = wait > 0.5 ? t("problem.banner", { span: span(Math.ceil(wait)) }) : t("problem.trying");
  return html`
    <div class="banners" role="status">
      ${!reached.value &&
      html`<div class="banner">
        <p aria-live="off">${words}</p>
        <button type="button" onClick=${tryNow}>${t("action.now")}</button>
      </div>`}
      ${forgetful.value && html`<div class="banner"><p>${t(`problem.${forgetful.value}`)}</p></div>`}
    </div>
  `;
}

/** What went wrong lately: jobs that failed, and the rest. */
export function Trouble() {
  const failed = jobs.value.filter(({ state }) => state === "failed");
  return html`
    <div class="troubles" role="alert">
      ${troubles.value.map((error) => {
        const onDismiss = () => (troubles.value = troubles.value.filter((each) => each !== error));
        return html`<${Problem} key=${error.message} error=${error} onDismiss=${onDismiss} />`;
      })}
      ${failed.map(
        (pending) => html`
          <${Problem}
            key=${pending.id}
            error=${pending.problem}
            about=${pending.request.prompt}
            onDismiss=${() => dismiss(pending)}
            onAgain=${() => again(pending)}
          />
        `,
      )}
    </div>
  `;
}

/** @param {{error: Error, about?: string, onDismiss: () => void, onAgain?: () => void}} props */
function Problem({ error, about, onDismiss, onAgain }) {
  const ours = error?.code && has(`problem.${error.code}`) ? t(`problem.${error.code}`) : null;
  return html`
    <div class="trouble">
      <p><strong>${t("problem.title")}</strong>${about && html` <q>${about}</q>`}</p>
      <p lang=${ours || !error?.code ? undefined : "en"}>${ours ?? error?.message}</p>
      <p class="row">
        ${onAgain && html`<button type="button" onClick=${onAgain}>${t("action.again")}</button>`}
        <button type="button" class="plain" onClick=${onDismiss}>${t("action.dismiss")}</button>
      </p>
    </div>
  `;
}
