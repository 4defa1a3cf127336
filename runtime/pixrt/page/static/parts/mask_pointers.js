// Mouse, pen and fingers on the mask: one pointer paints, two fingers move and magnify. Pressure makes no difference.

const ERASER = 32; // of a pen: its bit in `buttons`
const RIGHT = 2; // of a mouse: it erases

/**
 * Let pointers paint.
 *
 * @param {object} with_ canvas; painting (a ref); signals size and tool; view; cursor; changed()
 * @returns {() => void} ends it
 */
export function bindPointers({ canvas, painting, size, tool, view, changed, cursor }) {
  const pointers = new Map();
  let isPainting = false;
  let grip = null; // of two fingers

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const across = (event.clientX - box.left) / box.width;
    return [across * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  };
  const down = (event) => {
    if (event.pointerType === "mouse" && event.button !== 0 && event.button !== RIGHT) return;
    pointers.set(event.pointerId, event);
    canvas.setPointerCapture(event.pointerId);
    if (pointers.size > 1) {
      painting.current.cancel();
      isPainting = false;
      grip = gripOf(pointers);
      return;
    }
    const erases = tool.value === "eraser" || event.button === RIGHT || (event.buttons & ERASER) !== 0;
    isPainting = true;
    painting.current.begin(...place(event), size.value, erases);
    cursor.moveTo(...place(event));
  };
  const move = (event) => {
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, event);
    if (grip && pointers.size > 1) {
      const next = gripOf(pointers);
      view.zoomTo((view.zoom.value * next.distance) / grip.distance, grip, next);
      grip = next;
      return;
    }
    cursor.moveTo(...place(event));
    if (!isPainting) return;
    const passed = event.getCoalescedEvents?.() ?? []; // between two frames; some browsers tell none
    for (const each of passed.length ? passed : [event]) painting.current.extend(...place(each));
  };
  const up = (event) => {
    pointers.delete(event.pointerId);
    if (pointers.size < 2) grip = null;
    if (!isPainting || pointers.size > 0) return;
    isPainting = false;
    painting.current[event.type === "pointerup" ? "end" : "cancel"]();
    changed();
  };
  const wheel = (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // else it scrolls
    event.preventDefault();
    view.zoomTo(view.zoom.value * Math.exp(-event.deltaY / 200), { x: event.clientX, y: event.clientY });
  };
  const noMenu = (event) => event.preventDefault();
  const listeners = Object.entries({
    pointerdown: down,
    pointermove: move,
    pointerup: up,
    pointercancel: up,
    pointerleave: (event) => event.pointerType === "mouse" && !isPainting && cursor.hide(),
    contextmenu: noMenu,
    wheel,
  });
  for (const [name, listener] of listeners) canvas.addEventListener(name, listener, { passive: false });
  return () => listeners.forEach(([name, listener]) => canvas.removeEventListener(name, listener));
}

function gripOf(pointers) {
  const [one, other] = [...pointers.values()];
  const distance = Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
  return { x: (one.clientX + other.clientX) / 2, y: (one.clientY + other.clientY) / 2, distance };
}
