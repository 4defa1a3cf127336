/** From what is composed to jobs: checked, sent, and what the server says of a field put beside it. */
import { dismiss, send } from "./jobs.js";
import { optionsOf } from "./schema.js";
import { composeAll, faults, fieldOptions, isTaken, said, task, tried } from "./state.js";

/**
 * Send what is composed: one request for each source, in their order. What is wrong with it is in `faults`: at once, or
 * when the server has said so.
 */
export async function run() {
  tried.value = true;
  said.value = {};
  if (isFaulty()) return;
  tried.value = false;
  const requests = await composeAll();
  const pendings = (await Promise.all(requests.map(send))).flat();
  // Which of several pictures it is stands in their list, where it can be tried again.
  const isBesideField = (param) => isShown(param) && !(requests.length > 1 && param === "image");
  pendings.filter(({ problem }) => problem?.status < 500 && isBesideField(problem.param)).forEach((pending) => {
    said.value = { ...said.value, [pending.problem.param]: pending.problem.message };
    dismiss(pending);
  });
}

/** Whether something keeps what is composed from being sent. */
export const isFaulty = () => Object.keys(faults.value).length > 0;

/** Whether the page has a field of this name, so that a complaint can stand beside it. */
function isShown(name) {
  const others = ["prompt", "lora", ...["image", "mask", "style"].filter(isTaken)];
  return [...optionsOf(task.value), ...fieldOptions()].some((option) => option.name === name) || others.includes(name);
}
