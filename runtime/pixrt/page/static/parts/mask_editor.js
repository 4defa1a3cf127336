// A window to paint in: a picture, what is painted over it, tools, and the keyboard. For masks, and to paint back.
import { html, useEffect, useMemo, useRef, useSignal } from "../vendor/preact.js";
import { t } from "../core/texts.js";
import { fitTo } from "./canvases.js";
import { Painting } from "./painting.js";
import { bindPointers } from "./mask_pointers.js";
import { useCursor } from "./mask_cursor.js";
import { useZoom } from "./mask_zoom.js";
import { COLOURS, MaskTools } from "./mask_tools.js";

/**
 * @param {object} props
 * @param {string} props.title
 * @param {string} props.picture the address of the picture that is painted on
 * @param {number} props.width its pixels
 * @param {number} props.height
 * @param {CanvasImageSource|null} [props.under] what shows through where it is painted; without it paint is a colour
 * @param {{mask: HTMLCanvasElement, isSoft: boolean}|null} [props.start] a mask to begin with
 * @param {(painting: Painting) => Promise<void>} props.onDone
 * @param {() => void} props.onClose
 */
export function MaskEditor({ title, picture, width, height, under = null, start = null, onDone, onClose }) {
  const dialog = useRef(null);
  const frame = useRef(null);
  const canvas = useRef(null);
  const painting = useRef(null);
  const tool = useSignal("brush");
  const size = useSignal(Math.max(2, Math.round(Math.max(width, height) / 12)));
  const colour = useSignal(COLOURS[0]);
  const opacity = useSignal(under ? 1 : 0.5);
  const steps = useSignal(0); // of the painting, so that it is shown anew what can be undone
  const note = useSignal("");
  const isBusy = useSignal(false);
  const view = useZoom(frame, canvas, width, height);

  const changed = () => (steps.value += 1);
  const act = (name, value) => {
    painting.current[name](value);
    changed();
    requestAnimationFrame(() => {
      const { activeElement } = document; // a button that can do no more has lost the focus
      if (activeElement === document.body || activeElement.disabled) canvas.current?.focus({ preventScroll: true });
    });
  };
  const cursor = useCursor({ painting, canvas, frame, size, tool, width, height, act, changed, view });

  useEffect(() => {
    const pattern = (context) => context.createPattern(fitTo(under, width, height), "no-repeat");
    painting.current = new Painting(canvas.current, width, height, under ? pattern : colour.value);
    if (start) painting.current.start(start);
    changed();
    dialog.current.showModal();
    canvas.current.focus({ preventScroll: true });
    const ends = [view.watch(), bindPointers({ canvas: canvas.current, painting, size, tool, view, changed, cursor })];
    return () => ends.forEach((end) => end());
  }, []);

  const finish = async () => {
    if (isBusy.value) return;
    isBusy.value = true;
    try {
      await onDone(painting.current);
      dialog.current.close(); // the focus goes back to where it was
    } catch (error) {
      note.value = error.message;
      isBusy.value = false;
    }
  };
  const keys = (event) => {
    event.stopPropagation(); // the page's own shortcuts are for what is behind
    if (event.key === "Enter" && event.target.matches("input")) event.preventDefault(); // it would send the form around
    if (!event.ctrlKey && !event.metaKey) return;
    if (event.key.toLowerCase() === "z") act(event.shiftKey ? "redo" : "undo");
    else if (event.key === "Enter") finish();
    else return;
    event.preventDefault();
  };
  const leave = (event) => {
    if (!painting.current.canUndo || note.value === t("mask.leave")) return;
    event.preventDefault(); // Escape is next to other keys: what was painted is worth a second one
    note.value = t("mask.leave");
  };

  const scale = view.fit.value * view.zoom.value;
  const share = useMemo(() => painting.current?.share() ?? 0, [steps.value]);
  const percent = share > 0 && share < 0.01 ? 1 : Math.round(100 * share);
  const tools = { tool, size, opacity, colour, painting, steps, note, act, view, width, height, hasColour: !under };
  return html`
    <dialog class="mask-dialog" ref=${dialog} onKeyDown=${keys} onCancel=${leave} onClose=${onClose}
      aria-labelledby="mask-title">
      <header class="mask-head">
        <h2 id="mask-title">${title}</h2>
        <p role="status">${note.value || t(under ? "mask.shareBack" : "mask.share", { percent })}</p>
      </header>
      <div class="mask-frame" ref=${frame}>
        <div class="mask-stage" style=${{ width: `${width * scale}px`, height: `${height * scale}px` }}>
          <img src=${picture} alt="" draggable=${false} class=${scale > 3 ? "pixelated" : ""} />
          <canvas ref=${canvas} class=${scale > 3 ? "pixelated" : ""} tabindex="0" role="application"
            aria-label=${t("mask.canvas")} aria-describedby="mask-keys" style=${{ opacity: opacity.value }}
            onKeyDown=${cursor.onKeyDown} onKeyUp=${cursor.onKeyUp} onBlur=${cursor.onBlur}></canvas>
          <${cursor.Ring} />
        </div>
      </div>
      <p class="visually-hidden" role="status">${cursor.words}</p>
      <${MaskTools} ...${tools} />
      <footer class="mask-foot">
        <details>
          <summary>${t("mask.keys")}</summary>
          <p id="mask-keys">${t("mask.keysText")}</p>
        </details>
        <button type="button" onClick=${() => dialog.current.close()}>${t("mask.cancel")}</button>
        <button type="button" class="primary" disabled=${isBusy.value} onClick=${finish}>
          ${t(under ? "mask.backDone" : "mask.done")}
        </button>
      </footer>
    </dialog>
  `;
}
