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
      <${Spoken} pending=${moving[0]} />
    </section>
    <${End} count=${moving.length} />
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
function Spoken({ pending }) {
  const { id, state, place, step, steps } = pending ?? {};
  const quarter = steps ? Math.floor((4 * step) / steps) : 0;
  const words = useMemo(() => pending && wordsOf(pending), [id, state, place, quarter]);
  return html`<p class="visually-hidden" aria-live="polite">${words}</p>`;
}

/** That nothing is under way any more; what failed is an alert of its own. */
function End({ count }) {
  const had = useRef(0);
  const words = useMemo(() => {
    const isOver = had.current > 0 && count === 0;
    had.current = count;
    const states = jobs.value.map(({ state }) => state);
    if (!isOver || states.includes("failed")) return "";
    return t(states.includes("cancelled") ? "progress.cancelled" : "progress.done");
  }, [count]);
  return html`<p class="visually-hidden" aria-live="polite">${words}</p>`;
}
