/** The server's jobs API: every request that the page makes. Paths are relative, so that a proxy's prefix works. */
import { effect, signal } from "../vendor/preact.js";
import { EventSourceParserStream } from "../vendor/eventsource-parser.js";
import { t } from "./texts.js";

const KEY = "pixrt.key";
const ENDS = ["done", "failed", "cancelled"];

/** What a request came to if it was refused, or not reached (status 0). The message says what to do. */
export class Problem extends Error {
  constructor(status, code, message, { param = null, retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

/** The API key, or "". It is kept until the page's tab is closed. */
export const key = signal(takeKey());
effect(() => sessionStorage.setItem(KEY, key.value));

/** Whether the server refused the key (or that there is none). */
export const locked = signal(false);

/** Whether the last request got through to the server. */
export const reached = signal(true);

/** When the server will be tried again, milliseconds of `Date.now()`. */
export const nextTry = signal(0);

let ahead = 0; // milliseconds by which the server's clock is ahead of ours

/** The time as the server has it, Unix seconds. */
export const serverTime = () => (Date.now() + ahead) / 1000;

let back = null; // the one loop that waits for the server
let hurry = () => {};

/** Resolves when the server answers again; it is asked more and more seldom, and at once by `tryNow`. */
export function untilReached() {
  back ??= (async () => {
    reached.value = false;
    for (let pause = 500; !(await isReady()); pause = Math.min(pause * 1.6, 10_000)) {
      nextTry.value = Date.now() + pause;
      await new Promise((resolve) => {
        hurry = resolve;
        setTimeout(resolve, pause);
      });
    }
    reached.value = true;
    back = null;
  })();
  return back;
}

export function tryNow() {
  hurry();
}

addEventListener("online", tryNow);

/** Resolves when there is another key than now. */
export function untilKey() {
  const before = key.value;
  return new Promise((resolve) => {
    const stop = effect(() => {
      if (key.value === before) return;
      resolve();
      queueMicrotask(() => stop());
    });
  });
}

export const getSchema = () => json("v1/schema");
export const getJob = (id) => json(`v1/jobs/${id}`);
export const listJobs = async () => (await json("v1/jobs")).data;
export const cancelJob = (id) => json(`v1/jobs/${id}`, { method: "DELETE" });
export const submit = (form) => json("v1/jobs", { method: "POST", body: form });
export const getResult = async (id) => (await ask(`v1/jobs/${id}/result`)).blob();

/** The parameters that a picture's file holds, of pixrt or of AUTOMATIC1111. */
export function readParameters(picture) {
  const body = new FormData();
  body.append("image", picture, "picture");
  return json("v1/parameters", { method: "POST", body });
}

/**
 * What happens to a job, until its end: `{name, data}`. A connection that breaks is made again, and goes on after the
 * last event. Throws Problem: 404 if the server does not know the job (any more).
 * @param {string} id
 * @param {{signal?: AbortSignal}} options
 */
export async function* follow(id, { signal } = {}) {
  let last = null;
  for (;;) {
    try {
      const answer = await ask(`v1/jobs/${id}/events`, { headers: last ? { "last-event-id": last } : {}, signal });
      if (answer.status === 204) {
        const job = await getJob(id);
        yield { name: job.state, data: { job } };
        return;
      }
      for await (const event of read(answer.body.pipeThrough(new TextDecoderStream()))) {
        last = event.id ?? last;
        yield { name: event.event, data: JSON.parse(event.data) };
        if (ENDS.includes(event.event)) return;
      }
    } catch (error) {
      if (signal?.aborted || (error instanceof Problem && error.status !== 0)) throw error;
    }
    await untilReached();
  }
}

async function* read(text) {
  const reader = text.pipeThrough(new EventSourceParserStream()).getReader();
  try {
    for (let part; !(part = await reader.read()).done; ) yield part.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function json(path, options) {
  return (await ask(path, options)).json();
}

/** @returns {Promise<Response>} that is no error. Throws Problem. */
async function ask(path, { headers = {}, ...options } = {}) {
  if (key.value) headers = { ...headers, authorization: `Bearer ${key.value}` };
  let answer;
  try {
    answer = await fetch(path, { headers, cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw unreached();
  }
  const differs = Date.parse(answer.headers.get("date")) - Date.now();
  ahead = Math.abs(differs) > 3000 ? differs : 0; // the header has whole seconds
  if (answer.ok) {
    locked.value = false;
    return answer;
  }
  const { error } = await answer.json().catch(() => ({}));
  if (!error) throw answer.status >= 502 ? unreached() : new Problem(answer.status, "unknown", t("problem.unknown"));
  if (answer.status === 401) locked.value = true;
  const retryAfter = Number(answer.headers.get("retry-after")) || null;
  throw new Problem(answer.status, error.code, error.message, { param: error.param, retryAfter });
}

/** A proxy answers for a server that is not there with an error that is not the server's. */
function unreached() {
  untilReached();
  return new Problem(0, "unreached", t("problem.unreached"));
}

async function isReady() {
  return fetch("health/ready", { cache: "no-store" }).then(
    (answer) => answer.ok,
    () => false,
  );
}

/** The key out of the address (`#key=...`), which is removed there at once, or the one that this tab has. */
function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given !== null) history.replaceState(null, "", location.pathname + location.search);
  return given ?? sessionStorage.getItem(KEY) ?? "";
}
