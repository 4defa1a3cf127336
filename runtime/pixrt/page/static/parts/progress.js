/** What is under way: its place in the queue, how far it is, what it looks like so far; cancelled by a button. */
import { html, useMemo, useRef } from "../vendor/preact.js";
import { reached, serverTime } from "../core/api.js";
import { useClock } from "../core/hooks.js";
import { cancel, isMoving, jobs } from "../core/jobs.js";
import { span, t } from "../core/texts.js";

export function Progress() {
  const moving = jobs.value.filter(isMoving);
  useClock(moving.length > 0);
  const shown = moving.find(({ preview }) => preview);
  return html`
    <section class="progress" aria-label=${t("progress.title")} hidden=${!moving.length}>
      ${shown && html`<img class="preview" src=${shown.preview} alt=${t("progress.preview")} />`}
      <ol>
        ${moving.map((pending) => html`<${Row} key=${pending.id} pending=${pending} />`)}
      </ol>
      ${moving.length > 1 &&
      html`<button type="button" onClick=${() => moving.forEach(cancel)}>${t("progress.cancelAll")}</button>`}
    </section>
    <${Spoken} moving=${moving} />
  `;
}

function Row({ pending }) {
  const { request, seed, step, steps, state, resent, problem } = pending;
  const words = wordsOf(pending);
  return html`
    <li class=${state}>
      <div>
        <strong>${request.prompt || t(`task.${request.task}`)}</strong> <span class="small">${seed}</span>
        ${state === "running" && steps
          ? html`<progress value=${step} max=${steps} aria-label=${words} />`
          : html`<progress aria-label=${words} />`}
        <span class="small">${words}${resent && ` · ${t("progress.resent")}`}</span>
        ${problem && html`<span class="fault">${problem.message}</span>`}
      </div>
      <button type="button" aria-label=${`${t("action.cancel")}: ${request.prompt}`} onClick=${() => cancel(pending)}>
        ${t("action.cancel")}
      </button>
    </li>
  `;
}

/** Where a job is, in words. */
function wordsOf({ state, place, step, steps, predictedEnd, until }) {
  if (!reached.value) return t("progress.lost");
  if (state === "sending") return t("progress.sending");
  if (state === "waiting") return t("progress.waiting", { span: span(Math.ceil((until - Date.now()) / 1000)) });
  const left = t("progress.left", { span: span(Math.ceil(predictedEnd - serverTime())) });
  if (state === "running") return `${t("progress.step", { step, steps })} · ${left}`;
  return `${place ? t("progress.place", { n: place }) : t("progress.place")} · ${left}`;
}

/** The same for those who listen: only what is worth an interruption. */
function Spoken({ moving }) {
  const [first] = moving;
  const quarter = first?.steps ? Math.floor((4 * first.step) / first.steps) : 0;
  const had = useRef(0);
  const words = useMemo(() => {
    const isOver = had.current > 0 && !first;
    had.current = moving.length;
    if (first) return wordsOf(first);
    if (!isOver || jobs.value.some(({ state }) => state === "failed")) return ""; // that is an alert
    return t(jobs.value.some(({ state }) => state === "cancelled") ? "progress.cancelled" : "progress.done");
  }, [first?.id, first?.state, first?.place, quarter]);
  return html`<p class="visually-hidden" aria-live="polite">${words}</p>`;
}
