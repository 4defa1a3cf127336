// How large the mask's picture is shown: it fits its frame, or is magnified and scrolled.
import { useLayoutEffect, useRef, useSignal } from "../vendor/preact.js";

const MOST = 16;

/** @returns signals `fit` and `zoom`, `zoomTo(value, from, to)`, and `watch()` (which returns what ends it) */
export function useZoom(frame, canvas, width, height) {
  const zoom = useSignal(1);
  const fit = useSignal(1); // screen pixels of a picture's, without zoom
  const moved = useRef(null);

  /** Magnify. The point of the picture at `from` (clientX, clientY) comes to `to`; without them the middle stays. */
  const zoomTo = (value, from = middle(frame.current), to = from) => {
    const box = canvas.current.getBoundingClientRect();
    moved.current = { right: (from.x - box.left) / box.width, down: (from.y - box.top) / box.height, to };
    const next = Math.min(MOST, Math.max(1, value));
    if (next === zoom.value) settle();
    else zoom.value = next;
  };
  const settle = () => {
    if (!moved.current) return;
    const { right, down, to } = moved.current;
    const box = canvas.current.getBoundingClientRect();
    frame.current.scrollLeft += box.left + right * box.width - to.x;
    frame.current.scrollTop += box.top + down * box.height - to.y;
    moved.current = null;
  };
  useLayoutEffect(settle, [zoom.value]);

  const watch = () => {
    const look = new ResizeObserver(([{ contentRect }]) => {
      fit.value = Math.min(contentRect.width / width, contentRect.height / height) || 1;
    });
    look.observe(frame.current);
    return () => look.disconnect();
  };
  return { zoom, fit, zoomTo, watch, most: MOST };
}

function middle(frame) {
  const box = frame.getBoundingClientRect();
  return { x: box.left + box.width / 2, y: box.top + box.height / 2 };
}
