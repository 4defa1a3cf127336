/** A native dialog: modal, closed by Escape and by its button, with the focus kept inside by the browser. */
import { html, useEffect, useId, useRef } from "../vendor/preact.js";
import { t } from "../core/texts.js";
import { Icon } from "./icon.js";

/**
 * @param {object} props
 * @param {string} props.title
 * @param {() => void} props.onClose
 * @param {boolean} [props.wide]
 */
export function Dialog({ title, onClose, wide = false, children }) {
  const box = useRef(null);
  const id = useId();
  useEffect(() => {
    const from = document.activeElement;
    box.current.showModal();
    return () => from?.focus?.();
  }, []);
  const onCancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`
    <dialog ref=${box} class=${wide ? "wide" : ""} aria-labelledby=${id} onCancel=${onCancel}>
      <div class="head">
        <h2 id=${id}>${title}</h2>
        <button type="button" class="plain icon" aria-label=${t("action.close")} onClick=${onClose}>
          <${Icon} name="close" />
        </button>
      </div>
      ${children}
    </dialog>
  `;
}
