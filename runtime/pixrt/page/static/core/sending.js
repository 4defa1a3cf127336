/** A request on its way to the server: as a form, again when the server has no room, and never twice. */
import { listJobs, Problem, serverTime, submit, untilKey, untilReached } from "./api.js";
import { pictureOf } from "./history.js";

const SUFFIX = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp" };
const MARGIN = 10; // seconds by which the clocks may differ all the same

/**
 * @typedef {object} Request
 * @property {string} task @property {string} prompt
 * @property {object} options the seed among them
 * @property {{name: string, scale: number}[]} lora
 * @property {string|null} image an entry's id
 * @property {Blob|null} mask @property {Blob|null} style
 * @property {number} n
 * @property {object} fields output_format and the like
 * @property {string} group
 */

/** The form of a request. @returns {Promise<FormData>} */
export async function formOf(request) {
  const form = new FormData();
  form.append("task", request.task);
  if (request.prompt) form.append("prompt", request.prompt);
  for (const [name, value] of Object.entries({ ...request.options, ...request.fields })) {
    for (const each of [value].flat()) if (each !== null && each !== undefined) form.append(name, String(each));
  }
  for (const { name, scale } of request.lora) form.append("lora", `${name}:${scale}`);
  form.append("n", String(request.n));
  const pictures = { image: request.image && (await pictureOf(request.image)), mask: request.mask, style: request.style };
  for (const [name, blob] of Object.entries(pictures)) {
    if (blob) form.append(name, blob, `${name}.${SUFFIX[blob.type] ?? "bin"}`);
  }
  return form;
}

/**
 * The jobs of a request, one for each picture. If an earlier try may have got through (`since`), its jobs are looked
 * for first: they have the seeds that were drawn here.
 * @param {Request} request
 * @param {{since?: number, onWait: (until: number) => Promise<void>}} options `since`: milliseconds; `onWait` is called
 *   when the server has no room, and resolves when it is to be asked again. Throws Problem.
 */
export async function sendOnce(request, { since, onWait }) {
  for (;;) {
    try {
      const found = since ? await findJobs(request, since) : null;
      if (found) return found;
      since = Date.now();
      return (await submit(await formOf(request))).jobs;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 0) {
        await untilReached();
      } else if (error.status === 401) {
        await untilKey();
      } else if (error.retryAfter && [429, 503].includes(error.status)) {
        since = undefined;
        await onWait(Date.now() + error.retryAfter * 1000);
      } else throw error;
    }
  }
}

/** The jobs that the server has of a request, or null if it did not get it. */
async function findJobs(request, since) {
  const first = request.options.seed;
  const earliest = serverTime() - (Date.now() - since) / 1000 - MARGIN;
  const jobs = (await listJobs()).filter(
    (job) =>
      job.created > earliest &&
      job.task === request.task &&
      job.prompt === request.prompt &&
      job.seed >= first &&
      job.seed < first + request.n,
  );
  return jobs.length === request.n ? jobs : null;
}
