/**
 * One job, followed to its end: by its events while there is a seat for that, else by asking now and then.
 *
 * A browser keeps six connections to a server, over all of its pages, and a stream of events holds one.
 */
import { follow, getJob, Problem, untilReached } from "./api.js";

const SEATS = 2;
const POLL = 1500; // milliseconds

let taken = 0;

/**
 * @param {string} id
 * @param {AbortSignal} signal
 * @param {(news: object) => void} onNews gets the parts of a Pending that have changed
 * @returns {Promise<object>} the job as the server tells it at its end. Throws Problem.
 */
export async function watch(id, signal, onNews) {
  for (;;) {
    if (taken < SEATS && !document.hidden) {
      const job = await stream(id, signal, onNews);
      if (job) return job;
    }
    const job = await ask(id);
    if (signal.aborted) throw new DOMException("", "AbortError");
    if (!["queued", "running"].includes(job.state)) return job;
    onNews(newsOf(job));
    await pause();
  }
}

/** Follow its events. Returns null when the page is hidden meanwhile: its connection is left to others. */
async function stream(id, signal, onNews) {
  const left = new AbortController();
  const leave = () => document.hidden && left.abort();
  document.addEventListener("visibilitychange", leave);
  taken += 1;
  try {
    for await (const { name, data } of follow(id, { signal: AbortSignal.any([signal, left.signal]) })) {
      if (data.job) return data.job;
      onNews(NEWS[name]?.(data) ?? {});
    }
    return null;
  } catch (error) {
    if (left.signal.aborted && !signal.aborted) return null;
    throw error;
  } finally {
    taken -= 1;
    document.removeEventListener("visibilitychange", leave);
  }
}

const NEWS = {
  queued: ({ place, predicted_start, predicted_end }) => ({
    state: "queued",
    place,
    predictedStart: predicted_start,
    predictedEnd: predicted_end,
  }),
  step: ({ step, of, predicted_end }) => ({ state: "running", step, steps: of, predictedEnd: predicted_end }),
  preview: ({ b64_json, media_type }) => ({ preview: URL.createObjectURL(decoded(b64_json, media_type)) }),
};

function newsOf({ state, place, step, steps, predicted_start, predicted_end }) {
  return { state, place, step, steps, predictedStart: predicted_start, predictedEnd: predicted_end };
}

function decoded(text, type) {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type });
}

/** The job as it stands, as soon as the server can be reached. */
async function ask(id) {
  for (;;) {
    try {
      return await getJob(id);
    } catch (error) {
      if (!(error instanceof Problem) || error.status !== 0) throw error;
      await untilReached();
    }
  }
}

/** A while, or until the page is looked at again. */
function pause() {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", done);
      resolve();
    };
    const timer = setTimeout(done, POLL);
    document.addEventListener("visibilitychange", done);
  });
}
