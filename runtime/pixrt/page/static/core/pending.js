/** One job as the page has it, and as it is kept in the browser. */
import { newId } from "./history.js";

/**
 * @typedef {object} Pending
 * @property {string} id the server's, or one of ours until it has answered
 * @property {import("./sending.js").Request} request of this picture: `n` is 1 once the server has answered
 * @property {number} seed
 * @property {"sending"|"waiting"|"queued"|"running"|"done"|"failed"|"cancelled"} state
 * @property {number} place @property {number} step @property {number} steps
 * @property {number} predictedStart @property {number} predictedEnd Unix seconds
 * @property {string|null} preview an object URL
 * @property {number} until when a `waiting` one is sent again, milliseconds
 * @property {Problem|Error|null} problem
 * @property {boolean} resent whether the server had forgotten it
 * @property {boolean} cancelled whether the user has cancelled it
 */

/** Milliseconds for which a page that sends is taken to live. */
export const LEASE = 15_000;

/** This tab, over reloads. */
export const TAB = (sessionStorage["pixrt.tab"] ??= newId());

export const BLANK = {
  place: 0,
  step: 0,
  steps: 0,
  predictedStart: 0,
  predictedEnd: 0,
  preview: null,
  until: 0,
  problem: null,
  resent: false,
  cancelled: false,
};

const MOVING = ["sending", "waiting", "queued", "running"];

/** Whether a job is under way. */
export const isMoving = (pending) => MOVING.includes(pending.state);

/** What the browser keeps: enough to follow a job, or to send it. */
export function record({ id, request, seed, state, resent, asked }) {
  const sent = state === "sending" || state === "waiting" ? "sending" : "sent";
  return { id, request, seed, resent, asked, state: sent, tab: TAB, lease: Date.now() + LEASE };
}

/** What was sent, as the server's job of one of its pictures. */
export function acceptedAs(pending, job, index) {
  const { id, seed, state, place, step, steps, predicted_start: predictedStart, predicted_end: predictedEnd } = job;
  const request = { ...pending.request, n: 1, options: { ...pending.request.options, seed } };
  const asked = pending.asked + index; // so that they keep their order
  return { ...pending, id, seed, state, place, step, steps, predictedStart, predictedEnd, request, asked };
}
