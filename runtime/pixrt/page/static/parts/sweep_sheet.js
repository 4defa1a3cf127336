// A sweep's table as one labelled picture, and its pictures as a zip.
import { pictureOf } from "../core/history.js";
import { decode } from "../core/pictures.js";
import { withTexts, xmpPacket } from "../core/png.js";
import { t } from "../core/texts.js";
import { fileNameOf } from "../core/copying.js";
import { context, toPng } from "./canvases.js";
import { saveAs, saveZip } from "./saving.js";
import { titleOf } from "./sweep_grid.js";

const GAP = 8;
const LETTERS = 18; // pixels of a line's letters
const LINE = 26;
const SMALLEST = 160; // a cell's longer side: labels need room
const LARGEST = 512;

/** Save the table as a picture: rows and columns with their values, below it what it is. */
export async function saveGrid(grid, cells) {
  const canvas = await draw(grid, cells);
  const parameters = cells.find(({ entry }) => entry).entry.parameters;
  saveAs(await withTexts(await toPng(canvas), { "XML:com.adobe.xmp": xmpPacket(parameters.pixrt) }), "grid.png");
}

/** Save all pictures, named by their values. */
export function saveGridZip(grid, cells) {
  const files = cells
    .filter(({ entry }) => entry)
    .map(async ({ entry, options }) => {
      const values = Object.entries(options)
        .map(([name, value]) => `${name}-${value ?? "none"}`)
        .join("_");
      const suffix = /\.\w+$/.exec(fileNameOf(entry))[0];
      return { name: `${values}${suffix}`, input: await pictureOf(entry.id), lastModified: new Date(entry.created) };
    });
  return Promise.all(files).then((all) => saveZip(all, "grid.zip"));
}

async function draw({ rows, columns, request, seed }, cells) {
  const first = cells.find(({ entry }) => entry).entry;
  const longer = Math.max(first.width, first.height);
  const scale = longer < SMALLEST ? Math.ceil(SMALLEST / longer) : Math.min(1, LARGEST / longer);
  const [width, height] = [Math.round(first.width * scale), Math.round(first.height * scale)];
  const across = columns?.values ?? [null];
  const labels = rows.values.map(String);
  const paper = context(1, 1, { alpha: false });
  const write = () => (paper.font = `${LETTERS}px sans-serif`);
  write();
  const title = (axis) => titleOf(request.task, axis.name);
  const left = Math.ceil(Math.max(...[title(rows), ...labels].map((each) => paper.measureText(each).width))) + 2 * GAP;
  const top = (columns ? 2 : 1) * LINE + GAP;
  const about = [
    t("sweep.about", { words: request.prompt, seed: String(seed) }),
    t("result.ai", { model: first.model }),
  ];
  const wide = Math.max(
    left + across.length * (width + GAP),
    ...about.map((each) => paper.measureText(each).width + 2 * GAP),
  );
  const high = top + rows.values.length * (height + GAP) + about.length * LINE + GAP;
  Object.assign(paper.canvas, { width: Math.ceil(wide), height: high });
  paper.fillStyle = "#fff";
  paper.fillRect(0, 0, wide, high);
  paper.fillStyle = "#000";
  write();
  paper.textBaseline = "middle";
  paper.fillText(title(rows), GAP, top - LINE / 2);
  labels.forEach((each, row) => paper.fillText(each, GAP, top + row * (height + GAP) + height / 2));
  paper.textAlign = "center";
  if (columns) paper.fillText(title(columns), left + (across.length * (width + GAP)) / 2, GAP + LINE / 2);
  across.forEach((value, column) => {
    if (columns) paper.fillText(String(value), left + column * (width + GAP) + width / 2, top - LINE / 2, width);
  });
  paper.imageSmoothingEnabled = scale <= 1;
  for (const [index, { entry }] of cells.entries()) {
    const [row, column] = [Math.floor(index / across.length), index % across.length];
    if (entry) await place(paper, entry, left + column * (width + GAP), top + row * (height + GAP), width, height);
  }
  paper.textAlign = "left";
  about.forEach((each, line) => paper.fillText(each, GAP, high - (about.length - line - 0.5) * LINE - GAP / 2));
  return paper.canvas;
}

async function place(paper, entry, x, y, width, height) {
  const bitmap = await decode(await pictureOf(entry.id));
  paper.drawImage(bitmap, x, y, width, height);
  bitmap.close();
}
