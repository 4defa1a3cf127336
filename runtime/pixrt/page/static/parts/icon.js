/** Small drawings beside words or in their place; a label of the button says what it does. */
import { html } from "../vendor/preact.js";

const PATHS = {
  close: "M6 6l12 12M18 6L6 18",
  add: "M12 5v14M5 12h14",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  reset: "M4 12a8 8 0 1 0 3-6.2M4 4v5h5",
  undo: "M9 14L4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "M15 14l5-5-5-5M20 9H10a6 6 0 0 0 0 12h3",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.7-1.4",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M9 15h.01M15 15h.01M12 12h.01",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  camera: "M4 8h4l1.5-3h5L16 8h4v11H4zM12 16.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  brush: "M20 4l-9 9M11 13a3 3 0 0 0-3 0c-2 1-1 4-4 5 3 2 7 1 8-1a3 3 0 0 0-1-4z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
};

/** @param {{name: keyof PATHS}} props */
export function Icon({ name }) {
  return html`<svg class="drawn" viewBox="0 0 24 24" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}
