/**
 * What repeats a result elsewhere: a command of the shell, Python, and curl. Every parameter in force is said.
 *
 * Files are named as the page names them: the source by its own name, a result by its words and seed. Masks and style
 * pictures have no names: mask.png, style.png.
 */
import { key } from "./api.js";
import { byId } from "./history.js";
import { edited } from "./repeating.js";
import { optionsOf } from "./schema.js";

// What bundles are called by the models that are built in; the first is there where none is named.
const BUILT_IN = { "pixrt-demo": "", "pixrt-shapes": "shapes" };
const LONGEST = 40; // characters of a file's name out of words
const SUFFIX = { "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/avif": "avif" };
const FORMAT = { "image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp" };
// What stands among parameters and is no option: `EditResult.parameters` of the Python API, and what the page adds.
const FACTS = [
  "pixrt",
  "task",
  "model",
  "model_sha256",
  "precision",
  "notice",
  "loras",
  "tile",
  "instruction",
  "history",
];
const OURS = ["painted_back"];

/** A name for an entry's file: a source's own, or of a result's words and seed. */
export function fileNameOf(entry) {
  const suffix = SUFFIX[entry.media_type] ?? "png";
  if (entry.kind === "source") return entry.name || `picture.${suffix}`;
  const words = (entry.prompt || entry.task).toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");
  const slug = words
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .slice(0, LONGEST)
    .replace(/^-+|-+$/g, "");
  return `${slug || "picture"}-${entry.seed}${entry.parameters.painted_back ? "-painted-back" : ""}.${suffix}`;
}

/** A command for a POSIX shell. */
export function asCommand(entry) {
  const { task, text, source, target, options, loras, tile, quality } = factsOf(entry);
  const pictures = source ? [source] : [];
  const said = task === "style" ? [...pictures, "style.png"] : [...pictures, text];
  const words = [
    ["pixrt", task, ...bundleFlags(entry), "-o", target],
    ...options.map(({ name, value }) => flag(name.replaceAll("_", "-"), value)),
    ...loras.map(({ file, scale }) => ["--lora", `${file}:${scale}`]),
    ...(tile ? [["--tile", String(tile)]] : []),
    ...(quality ? [["--quality", String(quality)]] : []),
    ...(task === "style" && text ? [flag("instruction", text)] : []),
    ...(hasMask(entry) ? [["--mask", "mask.png"]] : []),
    ["--", ...said],
  ];
  return [...remarks(entry, "#"), `${wrapped(words)}\n`].join("\n");
}

/** The same in Python. */
export function asPython(entry) {
  const { task, text, source, target, options, loras, tile, quality } = factsOf(entry);
  const given = [
    ...(source ? [quoted(source)] : []),
    ...(task === "style" ? ['"style.png"'] : []),
    ...(task === "inpaint" ? ['"mask.png"'] : []),
    quoted(text),
    ...(task === "edit" && hasMask(entry) ? ['mask="mask.png"'] : []),
    ...options.map((option) => `${option.name}=${literal(option)}`),
  ];
  const loraList = loras.map(({ file, scale }) => `(${quoted(file)}, ${number(scale, "number")})`).join(", ");
  const opened = [
    ...(bundleOf(entry) ? [quoted(bundleOf(entry))] : []),
    ...(tile ? [`tile=${tile}`] : []),
    ...(loras.length ? [`loras=[${loraList}]`] : []),
  ];
  return [
    ...remarks(entry, "#"),
    "from pixrt import Editor",
    "",
    `with Editor(${opened.join(", ")}) as editor:`,
    `    result = editor.${task}(`,
    ...given.map((each) => `        ${each},`),
    "    )",
    `    result.save(${quoted(target)}${quality ? `, quality=${quality}` : ""})`,
    "",
  ].join("\n");
}

/** The same asked of this server, as a job: sent, waited for by its events, fetched. */
export function asCurl(entry) {
  const { task, text, source, target, options, quality } = factsOf(entry);
  const server = new URL(".", document.baseURI).href.replace(/\/$/, "");
  const auth = key.value ? ' -H "Authorization: Bearer $PIXRT_KEY"' : "";
  const fields = [
    ["task", task],
    ...(text ? [["prompt", text]] : []),
    ...options.map(({ name, value }) => [name, [value].flat().join(" ")]),
    ...(entry.lora ?? []).map(({ name, scale }) => ["lora", `${name}:${scale}`]),
    ["output_format", FORMAT[entry.media_type] ?? "png"],
    ...(quality ? [["output_compression", String(quality)]] : []),
  ];
  const files = [
    ...(source ? [["image", source]] : []),
    ...(hasMask(entry) ? [["mask", "mask.png"]] : []),
    ...(task === "style" ? [["style", "style.png"]] : []),
  ];
  const words = [
    ...fields.map(([name, value]) => ["--form-string", `${name}=${value}`]),
    ...files.map(([name, file]) => ["-F", `${name}=@"${file.replace(/[\\"]/g, "\\$&")}"`]),
  ];
  return [
    ...remarks(entry, "#"),
    `server=${shell(server)}`,
    `job=$(curl -sS${auth} "$server/v1/jobs" \\`,
    ...words.map((pair) => `    ${pair.map(shell).join(" ")} \\`),
    `    | sed 's/^{"id":"\\([^"]*\\)".*/\\1/')`,
    `curl -sSN${auth} "$server/v1/jobs/$job/events" > /dev/null  # until it is done`,
    `curl -sS${auth} "$server/v1/jobs/$job/result" -o ${shell(target)}`,
    "",
  ].join("\n");
}

/** What all three say. */
function factsOf(shown) {
  const entry = edited(shown);
  const { parameters } = entry;
  const task = parameters.task ?? entry.task;
  const schema = new Map(optionsOf(task).map((option) => [option.name, option]));
  const isSaid = ([name, value]) => {
    if (value === null || value === undefined || value === "") return false;
    if (FACTS.includes(name) || OURS.includes(name) || name.endsWith("_sha256")) return false;
    const option = schema.get(name); // where null is a value the default is the bundle's, and another's is another
    return !option || option.nullable || JSON.stringify(option.default) !== JSON.stringify(value);
  };
  const options = Object.entries(parameters)
    .filter(isSaid)
    .map(([name, value]) => ({ name, value, type: schema.get(name)?.type }));
  const parent = byId.value.get(entry.parent);
  const source = task === "generate" ? null : parent ? fileNameOf(parent) : "picture.png";
  const target = fileNameOf(entry);
  const loras = (parameters.loras ?? []).map(({ name, scale }) => ({
    file: name.endsWith(".safetensors") ? name : `${name}.safetensors`,
    scale,
  }));
  return {
    task,
    text: parameters.instruction ?? entry.prompt,
    source,
    target: target === source ? target.replace(/(\.\w+)$/, "-again$1") : target, // an input is not written over
    options,
    loras,
    tile: parameters.tile,
    quality: entry.media_type === "image/png" ? null : entry.fields?.output_compression, // 95 everywhere if not said
  };
}

/** What has to be known besides, as comments. */
function remarks(entry, sign) {
  const { parameters } = entry;
  const words = [];
  if (!Object.hasOwn(BUILT_IN, entry.model))
    words.push(`${entry.model}: the bundle's folder; model ${parameters.model_sha256}`);
  if (parameters.mask_sha256) words.push(`mask.png: the mask, SHA-256 ${parameters.mask_sha256}...`);
  if (parameters.style_sha256) words.push(`style.png: the style picture, SHA-256 ${parameters.style_sha256}...`);
  if (parameters.painted_back) words.push("Parts of the original were painted back afterwards, by hand: not repeated.");
  return words.map((each) => `${sign} ${each}`);
}

function hasMask({ parameters }) {
  return parameters.task === "inpaint" || Boolean(parameters.mask_sha256);
}

/** How the bundle is called; "" where it needs no name. */
function bundleOf({ model }) {
  return Object.hasOwn(BUILT_IN, model) ? BUILT_IN[model] : model;
}

function bundleFlags(entry) {
  return bundleOf(entry) ? ["-b", bundleOf(entry)] : [];
}

/** A flag with what belongs to it; a text may begin as a flag does. */
function flag(name, value) {
  if (value === true) return [`--${name}`];
  const words = [value].flat().map(String);
  return words[0].startsWith("-") ? [`--${name}=${words[0]}`] : [`--${name}`, ...words];
}

/** A command over several lines, one for each group of words. */
function wrapped(groups) {
  return groups.map((words) => words.map(shell).join(" ")).join(" \\\n    ");
}

/** A word for a POSIX shell. */
function shell(word) {
  return /^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** A text as Python has it: JSON's strings are Python's too. */
function quoted(text) {
  return JSON.stringify(text);
}

function literal({ value, type }) {
  if (Array.isArray(value)) return `(${value.map((each) => number(each, "number")).join(", ")})`;
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "number" ? number(value, type) : quoted(value);
}

/** With a point where the option is a fraction: the result's metadata say what was given. */
function number(value, type) {
  return type === "number" && Number.isInteger(value) ? `${value}.0` : String(value);
}
