/** The page: reads what the browser keeps and what the server offers, and shows it. */
import { effect, html, render, useEffect } from "./vendor/preact.js";
import { Problem, reached, untilKey, untilReached } from "./core/api.js";
import { byId, current, entries, openHistory } from "./core/history.js";
import { isMoving, jobs, resume } from "./core/jobs.js";
import { loadSchema, schema } from "./core/schema.js";
import { openDraft, task } from "./core/state.js";
import { LANGUAGES, loadTexts, t } from "./core/texts.js";
import { openTheme } from "./core/theme.js";
import { Compose } from "./parts/compose.js";
import { Header } from "./parts/header.js";
import { KeyDialog } from "./parts/key.js";
import { Banner, Trouble, troubles } from "./parts/problem.js";
import { Progress } from "./parts/progress.js";
import { Result } from "./parts/result.js";
import { Several } from "./parts/several.js";
import { onKey } from "./parts/shortcuts.js";
import { SweepTable } from "./parts/sweep_table.js";
import { HistoryTree } from "./parts/tree.js";
import { Viewer } from "./parts/viewer.js";

function App() {
  const entry = byId.value.get(current.value);
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  return html`
    <a class="skip" href="#picture">${t("app.skip")}</a>
    <${Header} />
    <${Banner} />
    <main>
      <section class="compose" aria-label=${t("app.compose")}><${Compose} /></section>
      <section class="picture" id="picture" tabindex="-1" aria-label=${t("app.picture")}>
        <${Trouble} />
        <${Progress} />
        ${entry && html`<${Viewer} /><${Result} entry=${entry} />`}
        ${entry?.group && html`<${Several} group=${entry.group} />`}
        <${SweepTable} />
        ${!entry && !jobs.value.some(isMoving) && html`<p class="empty">${t("app.empty")}</p>`}
      </section>
      ${entries.value.length > 0 && html`<aside class="history"><${HistoryTree} /></aside>`}
    </main>
    <${KeyDialog} />
  `;
}

/** What the server offers, asked for until it is known, and again after every time that the server was away. */
async function knowServer() {
  for (;;) {
    try {
      return await loadSchema();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 401) await untilKey();
      else if (error.status === 0 || error.status === 503) await untilReached();
      else return void troubles.add(error);
    }
  }
}

/** Files that were loaded before there was a worker are kept too, and the words of every language. */
async function openWorker() {
  if (!("serviceWorker" in navigator)) return; // plain http, other than this machine
  const home = new URL(".", document.baseURI).pathname;
  await navigator.serviceWorker.register("page/sw.js", { scope: home }).catch(() => {});
  const { active } = await navigator.serviceWorker.ready;
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
  const page = new URL(".", import.meta.url).href;
  const files = loaded.filter((name) => name.startsWith(page) && !name.endsWith("sw.js"));
  const words = Object.keys(LANGUAGES).map((name) => `${page}texts/${name}.json`);
  active.postMessage({ files: [...new Set([home, ...files, ...words])] });
}

addEventListener("unhandledrejection", ({ reason }) => reason instanceof Problem && troubles.add(reason));
await openHistory();
await loadTexts();
const known = knowServer();
await Promise.all([openTheme(), openDraft()]);
effect(() => {
  const names = Object.keys(schema.value?.tasks ?? {});
  if (names.length && !names.includes(task.value)) task.value = names[0];
});
effect(() => {
  document.title = t("app.title");
});
render(html`<${App} />`, document.getElementById("page"));
await known;
await resume();
let was = true;
reached.subscribe((is) => {
  if (is && !was) knowServer();
  was = is;
});
openWorker();
