// The history: sources, what was made of them, and what was made of that, as a tree.
import { computed, html, signal, useComputed, useEffect, useRef, useSignal } from "../vendor/preact.js";
import { byId, canRedo, canUndo, current, entries, redo, remove, select, undo } from "../core/history.js";
import { useUrl } from "../core/hooks.js";
import { t } from "../core/texts.js";
import { chosen, labelOf } from "./comparison.js";
import { Icon } from "./icon.js";

const SURE_MS = 5000; // in which a second click deletes
const DEEPEST = 6; // levels that are indented: a long chain would leave no room for words

const focused = signal(null); // the row that the arrow keys are at
const active = computed(() => (byId.value.has(focused.value) ? focused.value : current.value));

/** Rows in the order in which they are shown: `{entry, level, place, of}`. */
const rows = computed(() => {
  const children = Map.groupBy(entries.value, ({ parent }) => (byId.value.has(parent) ? parent : null));
  const found = [];
  const walk = (parent, level) => {
    const own = children.get(parent) ?? [];
    own.forEach((entry, index) => {
      found.push({ entry, level, place: index + 1, of: own.length });
      walk(entry.id, level + 1);
    });
  };
  walk(null, 1);
  return found;
});

/** The history with its buttons. */
export function HistoryTree() {
  const list = useRef(null);
  const removal = useRemoval((id) => go(id));
  useEffect(() => {
    focused.value = null;
    if (current.value) keepInSight(list.current, current.value);
  }, [current.value, rows.value.length]);
  const go = (id) => {
    if (!id) return;
    focused.value = id;
    const row = document.getElementById(`entry-${id}`);
    row?.focus({ preventScroll: true });
    keepInSight(list.current, id);
  };
  const keys = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const does = actionOf(event.key, active.value, go, removal);
    if (!does) return;
    event.preventDefault();
    does();
  };
  const sure = removal.isSure && t("tree.sure", { name: labelOf(byId.value.get(active.value)) });
  return html`
    <section class="tree-part" aria-labelledby="history-title">
      <h2 id="history-title">${t("tree.title")}</h2>
      <${Buttons} removal=${removal} />
      <p class=${sure ? "fault" : "visually-hidden"} role="status">${sure}</p>
      <ul class="tree" role="tree" aria-labelledby="history-title" ref=${list} onKeyDown=${keys}>
        ${rows.value.map((row) => html`<${Row} key=${row.entry.id} ...${row} />`)}
      </ul>
      <p class="hint">${t("tree.keys")}</p>
    </section>
  `;
}

/** What a key does at a row; undefined for other keys. */
function actionOf(key, id, go, removal) {
  const order = rows.value.map(({ entry }) => entry.id);
  const at = order.indexOf(id);
  const inside = rows.value.find(({ entry }) => entry.parent === id);
  return {
    ArrowDown: () => go(order[at + 1]),
    ArrowUp: () => go(order[at - 1]),
    ArrowRight: () => go(inside?.entry.id),
    ArrowLeft: () => go(byId.value.get(id)?.parent),
    Home: () => go(order[0]),
    End: () => go(order.at(-1)),
    Enter: () => select(id),
    " ": () => select(id),
    Delete: () => removal.ask(),
    a: () => choose("a", id),
    b: () => choose("b", id),
  }[key];
}

function choose(name, id) {
  chosen[name].value = chosen[name].value === id ? null : id;
}

/** Deleting asks once: the second time within a while it is done. `go` is told where to be then. */
function useRemoval(go) {
  const asked = useSignal(null);
  const isSure = asked.value !== null && asked.value === active.value;
  useEffect(() => {
    const timer = setTimeout(() => (asked.value = null), SURE_MS);
    return () => clearTimeout(timer);
  }, [asked.value]);
  const ask = async () => {
    const id = active.value;
    const isDone = asked.value === id;
    asked.value = isDone ? null : id;
    if (!isDone) return;
    const order = rows.value.map(({ entry }) => entry.id);
    const next = order[order.indexOf(id) + 1] ?? order.at(-2);
    const isInside = document.activeElement?.role === "treeitem";
    await remove(id);
    if (isInside) requestAnimationFrame(() => go(next));
  };
  return { isSure, ask };
}

function Buttons({ removal }) {
  const id = active.value;
  const compare = (name) => html`
    <button type="button" aria-pressed=${chosen[name].value === id} onClick=${() => choose(name, id)}
      aria-label=${t(`tree.${name}`)} title=${t(`tree.${name}`)}>${name.toUpperCase()}</button>
  `;
  return html`
    <div class="row" role="group" aria-label=${t("tree.actions")}>
      <button type="button" class="icon" disabled=${!canUndo.value} onClick=${undo} aria-label=${t("result.undo")}
        title=${t("result.undo")}><${Icon} name="undo" /></button>
      <button type="button" class="icon" disabled=${!canRedo.value} onClick=${redo} aria-label=${t("result.redo")}
        title=${t("result.redo")}><${Icon} name="redo" /></button>
      ${compare("a")} ${compare("b")}
      <button type="button" class=${removal.isSure ? "danger" : "icon"} onClick=${removal.ask}
        aria-label=${t(removal.isSure ? "tree.removeSure" : "tree.remove")} title=${t("tree.remove")}>
        ${removal.isSure ? t("tree.removeSure") : html`<${Icon} name="trash" />`}
      </button>
    </div>
  `;
}

/** One entry. What changes as one walks through the history is bound to signals: nothing is drawn anew. */
function Row({ entry, level, place, of }) {
  const { id } = entry;
  const row = useRef(null);
  const isNear = useNear(row);
  const thumb = useUrl("thumb", isNear ? id : null);
  const isCurrent = useComputed(() => current.value === id);
  const tabindex = useComputed(() => (active.value === id ? 0 : -1));
  const marks = useComputed(() =>
    ["a", "b"]
      .filter((name) => chosen[name].value === id)
      .join("")
      .toUpperCase(),
  );
  const style = { "--level": Math.min(level, DEEPEST) - 1 };
  const click = () => {
    select(id);
    row.current.focus({ preventScroll: true });
  };
  return html`
    <li role="treeitem" id=${`entry-${id}`} ref=${row} tabindex=${tabindex} aria-level=${level} aria-posinset=${place}
      aria-setsize=${of} aria-selected=${isCurrent} style=${style} onClick=${click}>
      <span class="tree-thumb">${thumb && html`<img src=${thumb} alt="" draggable=${false} />`}</span>
      <span class="tree-words"><span>${labelOf(entry)}</span> <small>${about(entry)}</small></span>
      <span class="tree-marks">${marks}</span>
    </li>
  `;
}

function about({ kind, task, seed, parameters }) {
  if (kind === "source") return t("tree.source");
  return t(parameters.painted_back ? "tree.paintedBack" : "tree.result", {
    task: t(`task.${task}`),
    seed: String(seed),
  });
}

const waiting = new WeakMap(); // an element -> what is called when it comes near the screen
let watcher = null;

/** Whether an element has been near what is seen. */
function useNear(element) {
  const isNear = useSignal(false);
  useEffect(() => {
    watcher ??= new IntersectionObserver(
      (seen) => {
        for (const { isIntersecting, target } of seen) if (isIntersecting) waiting.get(target)?.();
      },
      { rootMargin: "300px" },
    );
    const own = element.current;
    waiting.set(own, () => {
      isNear.value = true;
      watcher.unobserve(own);
    });
    watcher.observe(own);
    return () => watcher.unobserve(own);
  }, []);
  return isNear.value;
}

/** Scroll the list alone, not the page. */
function keepInSight(list, id) {
  const row = document.getElementById(`entry-${id}`);
  if (!list || !row) return;
  const [seen, own] = [list.getBoundingClientRect(), row.getBoundingClientRect()];
  list.scrollTop += Math.min(0, own.top - seen.top) + Math.max(0, own.bottom - seen.bottom);
}
