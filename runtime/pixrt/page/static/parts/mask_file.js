// A button that reads a mask out of a file.
import { html, useRef } from "../vendor/preact.js";
import { t } from "../core/texts.js";
import { readMask } from "./canvases.js";

/**
 * @param {object} props
 * @param {number} props.width pixels of the picture that the mask is for: one of another size is scaled
 * @param {number} props.height
 * @param {(found: {mask: HTMLCanvasElement, isSoft: boolean}) => Promise<void>|void} props.onMask
 * @param {{value: string}} props.note a signal: what is to be said of the file, or ""
 */
export function MaskFile({ width, height, onMask, note }) {
  const input = useRef(null);
  const load = async () => {
    const [file] = input.current.files;
    input.current.value = "";
    if (!file) return;
    try {
      const found = await readMask(file);
      const { mask } = found;
      const isOther = mask.width !== width || mask.height !== height;
      const sizes = { from: `${mask.width} × ${mask.height}`, to: `${width} × ${height}` };
      note.value = isOther ? t("mask.scaled", sizes) : "";
      await onMask(found);
    } catch {
      note.value = t("mask.unreadable", { name: file.name });
    }
  };
  return html`
    <button type="button" onClick=${() => input.current.click()}>${t("mask.load")}</button>
    <input type="file" class="visually-hidden" tabindex="-1" accept="image/*" ref=${input} onChange=${load}
      aria-label=${t("mask.loadFile")} />
  `;
}
