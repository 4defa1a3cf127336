// Files for the user: one by one, or as a zip.
import { downloadZip } from "../vendor/client-zip.js";

/** Let the browser save a file. */
export function saveAs(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // until the browser has read it
}

/** Save files as a zip. @param {{name: string, input: Blob, lastModified?: Date}[]} files */
export async function saveZip(files, name) {
  const names = uniqueNames(files.map((file) => file.name));
  saveAs(await downloadZip(files.map((file, index) => ({ ...file, name: names[index] }))).blob(), name);
}

/** Names of which no two are the same, whatever their case: "a.png", "a-2.png". */
export function uniqueNames(names) {
  const taken = new Set();
  return names.map((name) => {
    const [, stem, suffix] = /^(.*?)(\.[^.]*)?$/s.exec(name);
    let free = name;
    for (let number = 2; taken.has(free.toLowerCase()); number += 1) free = `${stem}-${number}${suffix ?? ""}`;
    taken.add(free.toLowerCase());
    return free;
  });
}
