/**
 * The jobs that were asked for: sent, followed, and kept in the browser until their pictures are in the history.
 *
 * A job's life: `sending` (`waiting` while the server has no room), `queued`, `running`, `done`; or `failed`,
 * `cancelled`. What has an id of the server's is followed by every page; what has not, by the page that sends it.
 */
import { signal } from "../vendor/preact.js";
import { cancelJob, getResult, Problem, untilKey, untilReached } from "./api.js";
import { watch } from "./following.js";
import { addResult, byId, current, newId, select } from "./history.js";
import { acceptedAs, BLANK, isMoving, LEASE, record, TAB } from "./pending.js";
import { schema } from "./schema.js";
import { sendOnce } from "./sending.js";
import * as store from "./store.js";

/** All of them, oldest first. @type {{value: import("./pending.js").Pending[]}} */
export const jobs = signal([]);

export { isMoving };

const aborts = new Map(); // id -> AbortController
let line = Promise.resolve(); // requests are sent one after the other, in order
let latest = null; // the group whose first picture is looked at when it is there

/** Send a request. @returns {Promise<Pending[]>} one for each picture. What is wrong with it is told there too. */
export async function send(request) {
  latest = request.group;
  jobs.value = jobs.value.filter(isMoving);
  const pending = begin({ id: newId(), request, seed: request.options.seed, state: "sending" });
  return submitAndFollow(pending);
}

/** Cancel a job, wherever it is. One that has just ended is forgotten by the server, and by us. */
export async function cancel(pending) {
  const isSent = !["sending", "waiting"].includes(pending.state);
  if (!isSent) return end(pending.id, { state: "cancelled" });
  change(pending.id, { cancelled: true });
  await cancelJob(pending.id).catch((error) => change(pending.id, { problem: error }));
}

/** Take one that has ended from the list. */
export function dismiss(pending) {
  if (pending.preview) URL.revokeObjectURL(pending.preview);
  jobs.value = jobs.value.filter(({ id }) => id !== pending.id);
}

/** Ask for the same once more. */
export function again(pending) {
  dismiss(pending);
  return send(pending.request);
}

/** Go on with what is kept: after a reload, and when another page has sent something. */
export async function resume() {
  const all = (await store.all("jobs")).sort((a, b) => a.asked - b.asked);
  latest = all.at(-1)?.request.group ?? null;
  all.forEach(adopt);
  store.onChange(async (name, id) => {
    if (name === "all") [...jobs.value].forEach((pending) => end(pending.id, { state: "cancelled" }));
    const kept = name === "jobs" && (await store.get("jobs", id));
    if (kept && kept.state === "sent") adopt(kept);
  });
}

/** Follow a job of the browser's store, or send it if the page that did so is gone. */
function adopt(kept) {
  if (jobs.value.some(({ id }) => id === kept.id)) return;
  if (kept.state === "sent") follow(begin({ ...kept, state: "queued" }));
  else if (kept.tab === TAB || kept.lease < Date.now()) submitAndFollow(begin(kept), kept.asked);
  else setTimeout(async () => (await store.get("jobs", kept.id)) && adopt(await store.get("jobs", kept.id)), LEASE);
}

/** @returns {Promise<Pending[]>} */
async function submitAndFollow(pending, since) {
  const abort = new AbortController();
  aborts.set(pending.id, abort);
  const beat = setInterval(() => keep(find(pending.id)), LEASE / 3);
  const turn = line;
  let goOn;
  line = new Promise((resolve) => (goOn = resolve));
  try {
    await keep(pending);
    await turn;
    abort.signal.throwIfAborted();
    const onWait = (until) => pause(pending.id, until, abort.signal);
    const accepted = await sendOnce(pending.request, { since, onWait });
    if (abort.signal.aborted) {
      accepted.forEach((job) => cancelJob(job.id).catch(() => {}));
      return [];
    }
    const made = accepted.map((job, index) => acceptedAs(pending, job, index));
    for (const each of made) await keep(each);
    await store.drop("jobs", pending.id);
    jobs.value = jobs.value.flatMap((each) => (each.id === pending.id ? made : [each]));
    made.forEach(follow);
    return made;
  } catch (error) {
    if (!abort.signal.aborted) await end(pending.id, { state: "failed", problem: error });
    return [find(pending.id)].filter(Boolean);
  } finally {
    goOn();
    clearInterval(beat);
    aborts.delete(pending.id);
  }
}

/** Wait until a time, told to the user; it throws when the job is cancelled meanwhile. */
function pause(id, until, aborted) {
  change(id, { state: "waiting", until });
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      change(id, { state: "sending" });
      resolve();
    }, until - Date.now());
    aborted.addEventListener("abort", () => (clearTimeout(timer), reject(new Error("cancelled"))));
  });
}

/** Follow a job that the server has, to its end. */
async function follow({ id }) {
  if (!find(id)) return;
  const abort = new AbortController();
  aborts.set(id, abort);
  try {
    const job = await watch(id, abort.signal, (news) => change(id, news));
    if (job.state === "done") await finish(id, job);
    else await end(id, { state: job.state, problem: job.error && new Problem(500, job.error.code, job.error.message) });
  } catch (error) {
    if (abort.signal.aborted) return;
    if (error.status === 404) await sendAgain(id);
    else if (error.status === 401) untilKey().then(() => follow({ id }));
    else if (error.status === 0) untilReached().then(() => follow({ id }));
    else await end(id, { state: "failed", problem: error });
  } finally {
    if (aborts.get(id) === abort) aborts.delete(id);
  }
}

/** Fetch the picture of a job that is done, and put it into the history. */
async function finish(id, job) {
  const { request, asked } = find(id);
  const blob = await getResult(id);
  const { seed, model, model_sha256: sha256, parameters, notes = [] } = job.result;
  const { task, prompt, lora, group, image, fields } = request;
  const notice = schema.value?.model.notice ?? "";
  const made = { task, prompt, lora, group, fields, seed, model, sha256, notice, notes, parameters, created: asked };
  await addResult({ ...made, id, parent: byId.value.has(image) ? image : null }, blob, request);
  if (group === latest && byId.value.get(current.value)?.group !== group) select(id);
  await end(id, { state: "done" });
}

/** The server does not know the job: it was started anew meanwhile, or another page has the picture. Once only. */
async function sendAgain(id) {
  const pending = find(id);
  if (byId.value.has(id)) return end(id, { state: "done" });
  if (pending.cancelled) return end(id, { state: "cancelled" });
  if (pending.resent) return end(id, { state: "failed", problem: new Problem(404, "lost", "") });
  const anew = { ...pending, id: newId(), state: "sending", resent: true, step: 0, preview: null, asked: Date.now() };
  const isOurs = await store.replace("jobs", id, anew.id, record(anew));
  jobs.value = isOurs ? jobs.value.map((each) => (each.id === id ? anew : each)) : jobs.value.filter((each) => each.id !== id);
  return isOurs ? submitAndFollow(anew) : undefined;
}

function begin(pending) {
  const full = { ...BLANK, asked: Date.now(), ...pending };
  jobs.value = [...jobs.value, full];
  return full;
}

const find = (id) => jobs.value.find((pending) => pending.id === id);

function change(id, news) {
  const before = find(id);
  if (before?.preview && news.preview) URL.revokeObjectURL(before.preview);
  jobs.value = jobs.value.map((pending) => (pending.id === id ? { ...pending, ...news } : pending));
}

/** One that has ended is not kept, and not shown unless there is something to say. */
async function end(id, news) {
  const pending = find(id);
  if (!pending) return;
  change(id, news);
  aborts.get(id)?.abort();
  await store.drop("jobs", id);
  if (news.state === "done") dismiss(pending);
}

/** Keep what is needed to follow a job, or to send it. */
async function keep(pending) {
  if (pending && isMoving(pending)) await store.put("jobs", pending.id, record(pending));
}
