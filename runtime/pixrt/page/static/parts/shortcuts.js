/** Keys that work wherever the focus is: Ctrl+Enter, Ctrl+Z, Ctrl+Shift+Z (Ctrl+Y), Escape. */
import { redo, undo } from "../core/history.js";
import { cancel, isMoving, jobs } from "../core/jobs.js";
import { runAndShow } from "./compose.js";

/** @param {KeyboardEvent} event */
export function onKey(event) {
  if (document.querySelector("dialog[open]")) return;
  const isControl = event.ctrlKey || event.metaKey;
  const key = event.key.toLowerCase();
  if (isControl && key === "enter") runAndShow();
  else if (isControl && !isText(event.target) && key === "z") (event.shiftKey ? redo : undo)();
  else if (isControl && !isText(event.target) && key === "y") redo();
  else if (key === "escape" && jobs.value.some(isMoving)) jobs.value.filter(isMoving).forEach(cancel);
  else return;
  event.preventDefault();
}

/** There Ctrl+Z is the browser's, for what was typed. */
function isText(target) {
  return target.matches?.("textarea, input:not([type=range], [type=radio], [type=checkbox])") ?? false;
}
