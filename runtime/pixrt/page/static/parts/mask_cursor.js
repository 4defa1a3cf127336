// The brush's ring over the mask, and painting by the keyboard: arrows move it, space paints, [ and ] change its size.
import { html, useRef, useSignal } from "../vendor/preact.js";
import { t } from "../core/texts.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SAY_MS = 400; // after the last move: a screen reader need not tell of each
const MARGIN = 24; // pixels of the screen that the cursor keeps from the frame's edge

/** What the editor's canvas needs of it: key handlers, `moveTo`, `hide`, the signal `words`, the component `Ring`. */
export function useCursor({ painting, canvas, frame, size, tool, width, height, act, changed, view }) {
  const at = useSignal([width / 2, height / 2]);
  const shown = useSignal(false);
  const isDown = useSignal(false); // the keyboard's brush
  const words = useSignal("");
  const timer = useRef(0);
  const ring = useRef(null);

  const say = () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      const [x, y] = at.value.map(Math.round);
      words.value = t(isDown.value ? "mask.atDown" : "mask.at", { x, y, size: size.value });
    }, SAY_MS);
  };
  const moveTo = (x, y) => {
    at.value = [x, y];
    shown.value = true;
  };
  const put = (down) => {
    if (down === isDown.value) return;
    isDown.value = down;
    if (down) painting.current.begin(...at.value, size.value, tool.value === "eraser");
    else painting.current.end();
    changed();
  };
  const step = (event) => {
    const far = event.shiftKey ? 1 : Math.max(1, Math.round(size.value / 4));
    const next = at.value.map((place, axis) => place + far * ARROWS[event.key][axis]);
    moveTo(...next.map((place, axis) => Math.min([width, height][axis], Math.max(0, place))));
    if (isDown.value) painting.current.extend(...at.value);
    keepInSight();
  };
  const keepInSight = () => {
    const box = canvas.current.getBoundingClientRect();
    const seen = frame.current.getBoundingClientRect();
    const left = box.left + (at.value[0] / width) * box.width;
    const top = box.top + (at.value[1] / height) * box.height;
    frame.current.scrollLeft += Math.min(0, left - seen.left - MARGIN) + Math.max(0, left - seen.right + MARGIN);
    frame.current.scrollTop += Math.min(0, top - seen.top - MARGIN) + Math.max(0, top - seen.bottom + MARGIN);
  };
  const resize = (by) => {
    const next = by > 0 ? Math.ceil(size.value * 1.25) : Math.floor(size.value * 0.8);
    size.value = Math.min(Math.max(width, height), Math.max(1, next));
  };
  const keys = {
    "[": () => resize(-1),
    "]": () => resize(1),
    b: () => (tool.value = "brush"),
    e: () => (tool.value = "eraser"),
    i: () => act("invert"),
    "+": () => view.zoomTo(view.zoom.value * 1.5),
    "=": () => view.zoomTo(view.zoom.value * 1.5),
    "-": () => view.zoomTo(view.zoom.value / 1.5),
    0: () => view.zoomTo(1),
    Enter: () => put(!isDown.value),
    " ": () => put(true),
  };
  const onKeyDown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isArrow = event.key in ARROWS;
    if (!isArrow && !(event.key in keys)) return;
    event.preventDefault();
    if (event.repeat && (event.key === " " || event.key === "Enter")) return;
    shown.value = true;
    if (isArrow) step(event);
    else keys[event.key]();
    say();
  };
  const onKeyUp = (event) => event.key === " " && put(false);

  ring.current ??= function Ring() {
    const scale = view.fit.value * view.zoom.value;
    const side = Math.max(4, size.value * scale);
    const [x, y] = at.value.map((place) => place * scale - side / 2);
    const style = { width: `${side}px`, height: `${side}px`, transform: `translate(${x}px, ${y}px)` };
    const kind = `mask-ring${tool.value === "eraser" ? " erases" : ""}${isDown.value ? " down" : ""}`;
    return html`<div class=${kind} hidden=${!shown.value} style=${style}></div>`;
  };
  const hide = () => (shown.value = false);
  return { onKeyDown, onKeyUp, onBlur: () => put(false), moveTo, hide, words, Ring: ring.current };
}
