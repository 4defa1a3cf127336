// Zoom and pan, by the vendored panzoom: one view for all pictures that are shown beside or over one another.
import Panzoom from "../vendor/panzoom.js";
import { signal, useEffect, useRef } from "../vendor/preact.js";

const MOST = 40;
const PAN = 40; // pixels of the screen for an arrow key
const STILL = { animate: false, force: true };
const whole = { scale: 1, x: 0, y: 0 };

/** How pictures are magnified: `{scale, x, y}` as in `scale(...) translate(...)` around their middle. */
export const view = signal(whole);
const panes = new Set();

/** As a style of a picture. */
export const transformOf = ({ scale, x, y }) => `scale(${scale}) translate(${x}px, ${y}px)`;

/** Magnify by a factor around the middle; 0 shows the whole picture. */
export function zoomBy(factor) {
  const [pane] = panes;
  if (!pane) return;
  if (factor === 0) show(whole);
  else pane.zoom(pane.getScale() * factor, { animate: false });
}

/** Show all pictures so. */
export function show(next) {
  view.value = next;
  for (const pane of panes) follow(pane, next);
}

/** + - 0 zoom, arrows move what is magnified. @returns whether the key was one of these */
export function zoomKey(key) {
  const [pane] = panes;
  const step = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key];
  if (key === "+" || key === "=") zoomBy(1.25);
  else if (key === "-") zoomBy(0.8);
  else if (key === "0") zoomBy(0);
  else if (step && pane && view.value.scale > 1) {
    const [x, y] = step.map((each) => (each * PAN) / view.value.scale);
    pane.pan(x, y, { relative: true, animate: false });
  } else return false;
  return true;
}

/**
 * Let a frame be magnified by wheel and fingers.
 * @returns {{frame: object, ghost: object}} refs of the frame, and of an empty element that fills it
 */
export function useZooming() {
  const frame = useRef(null);
  const ghost = useRef(null);
  useEffect(() => {
    const pane = Panzoom(ghost.current, {
      contain: "outside",
      minScale: 1,
      maxScale: MOST,
      canvas: true, // all of the frame can be dragged
      panOnlyWhenZoomed: true,
      cursor: "",
      touchAction: "pan-y",
      handleStartEvent: () => {}, // it would keep the frame from the focus
      silent: true, // until it shows what the others show
    });
    const changed = ({ detail: { scale, x, y } }) => {
      view.value = { scale, x, y };
      for (const other of panes) if (other !== pane) follow(other, view.value);
    };
    const stopWheel = onWheel(frame.current, pane);
    const stopTouch = view.subscribe(({ scale }) => pane.setOptions({ touchAction: scale > 1 ? "none" : "pan-y" }));
    ghost.current.addEventListener("panzoomchange", changed);
    setTimeout(() => {
      pane.setOptions({ silent: false }); // after panzoom's own beginning, which waits too
      follow(pane, view.value);
    });
    panes.add(pane);
    return () => {
      panes.delete(pane);
      ghost.current?.removeEventListener("panzoomchange", changed);
      stopWheel();
      stopTouch();
      pane.destroy();
    };
  }, []);
  return { frame, ghost };
}

function follow(pane, { scale, x, y }) {
  pane.zoom(scale, { ...STILL, silent: true });
  pane.pan(x, y, { ...STILL, silent: true });
}

/** The wheel magnifies, where the pointer is; at its smallest a picture lets the page scroll on. */
function onWheel(frame, pane) {
  let factor = 1;
  let last = null;
  const apply = () => {
    pane.zoomToPoint(pane.getScale() * factor, last, { animate: false });
    factor = 1;
    // Panzoom measures what it has drawn, and draws with the next frame.
    requestAnimationFrame(() => requestAnimationFrame(() => (factor === 1 ? (last = null) : apply())));
  };
  const wheel = (event) => {
    if (event.deltaY > 0 && pane.getScale() <= 1) return;
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
    factor *= Math.exp(-Math.max(-100, Math.min(100, pixels)) / (event.ctrlKey ? 100 : 400));
    const isIdle = last === null;
    last = { clientX: event.clientX, clientY: event.clientY };
    if (isIdle) requestAnimationFrame(apply);
  };
  frame.addEventListener("wheel", wheel, { passive: false });
  return () => frame.removeEventListener("wheel", wheel);
}
