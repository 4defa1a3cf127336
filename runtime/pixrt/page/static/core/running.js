/** From what is composed to jobs: checked, sent, and what the server says of a field put beside it. */
import { send, dismiss } from "./jobs.js";
import { composeAll, faults, said, tried } from "./state.js";

/**
 * Send what is composed: one request for each source, in their order.
 * @returns {Promise<boolean>} whether all of it was fit to be sent
 */
export async function run() {
  tried.value = true;
  if (Object.keys(faults.value).length) return false;
  tried.value = false;
  await sendAll(await composeAll());
  return true;
}

async function sendAll(requests) {
  said.value = {};
  const pendings = (await Promise.all(requests.map(send))).flat();
  for (const pending of pendings) {
    const { param, message, status } = pending.problem ?? {};
    if (!param || status >= 500) continue;
    said.value = { ...said.value, [param]: message };
    dismiss(pending);
  }
}
