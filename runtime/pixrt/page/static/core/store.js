/**
 * What the browser keeps: IndexedDB "pixrt", or this page's memory where there is none or no room is left.
 *
 * Other pages of the same browser are told of every change; what they tell comes out of `onChange`.
 */
import { openDB } from "../vendor/idb.js";
import { signal } from "../vendor/preact.js";

const STORES = ["entries", "blobs", "jobs", "settings"];
const channel = new BroadcastChannel("pixrt");
const memory = Object.fromEntries(STORES.map((name) => [name, new Map()]));
let database = null;

/** Whether something is in this page's memory only, and why: null, "closed" (no IndexedDB) or "full". */
export const forgetful = signal(null);

/** Open it. Called once, before anything else. */
export async function openStore() {
  try {
    database = await openDB("pixrt", 1, {
      upgrade: (opened) => STORES.forEach((name) => opened.createObjectStore(name)),
    });
  } catch {
    forgetful.value = "closed";
  }
}

/** @returns what is kept under a key, or undefined */
export async function get(store, key) {
  return memory[store].get(key) ?? (database ? database.get(store, key) : undefined);
}

/** @returns all values of a store */
export async function all(store) {
  return [...(database ? await database.getAll(store) : []), ...memory[store].values()];
}

/** Keep a value. Where there is no room it stays in memory, and `forgetful` says so. */
export async function put(store, key, value) {
  try {
    if (!database) throw new Error("closed");
    await database.put(store, value, key);
    memory[store].delete(key);
  } catch {
    forgetful.value ??= "full";
    memory[store].set(key, value);
  }
  tell(store, key);
}

export async function drop(store, key) {
  memory[store].delete(key);
  await database?.delete(store, key);
  tell(store, key);
}

/**
 * Put one record in the place of another, unless another page was first.
 * @returns whether it was there to be replaced
 */
export async function replace(store, key, newKey, value) {
  if (memory[store].delete(key)) {
    memory[store].set(newKey, value);
    return true;
  }
  if (!database) return false;
  const change = database.transaction(store, "readwrite");
  const found = (await change.store.get(key)) !== undefined;
  if (found) await Promise.all([change.store.delete(key), change.store.put(value, newKey)]);
  await change.done;
  if (found) tell(store, newKey);
  return found;
}

/** Forget everything. */
export async function wipe() {
  for (const name of STORES) {
    memory[name].clear();
    await database?.clear(name);
  }
  tell("all", null);
}

/** Call `listener(store, key)` when another page has changed something; the store is "all" if everything is gone. */
export function onChange(listener) {
  channel.addEventListener("message", ({ data }) => listener(data.store, data.key));
}

function tell(store, key) {
  channel.postMessage({ store, key });
}
