// Painting back: where it is painted, the picture that a result was made of shows through. Done in the browser alone.
import { html, useSignal } from "../vendor/preact.js";
import { addResult, byId, newId, pictureOf, pictureUrl, select } from "../core/history.js";
import { decode } from "../core/pictures.js";
import { withTexts, xmpPacket } from "../core/png.js";
import { t } from "../core/texts.js";
import { chosen } from "./comparison.js";
import { MaskEditor } from "./mask_editor.js";
import { fitTo, opaque, toPng } from "./canvases.js";

/** A button that opens the window to paint back, for a result that was made of a picture. */
export function PaintBack({ entry }) {
  const opened = useSignal(null);
  const parent = byId.value.get(entry?.parent);
  if (entry?.kind !== "result" || !parent) return null;
  const open = async () => {
    const [picture, under] = await Promise.all([pictureUrl(entry.id), pictureOf(parent.id).then(decode)]);
    opened.value = { picture, under };
  };
  const done = async (painting) => {
    if (painting.share() === 0) throw new Error(t("mask.nothingBack"));
    await keep(entry, opened.value.under, painting.canvas);
  };
  const close = () => {
    opened.value?.under.close();
    opened.value = null;
  };
  return html`
    <button type="button" onClick=${open}>${t("mask.back")}</button>
    ${
      opened.value &&
      html`<${MaskEditor} title=${t("mask.back")} ...${opened.value} width=${entry.width} height=${entry.height}
      onDone=${done} onClose=${close} />`
    }
  `;
}

/** The result with the picture `under` it where it was painted, as an entry of its own that is made of the result. */
async function keep(entry, under, painted) {
  const bitmap = await decode(await pictureOf(entry.id));
  const canvas = fitTo(bitmap, entry.width, entry.height);
  bitmap.close();
  const shown = fitTo(under, entry.width, entry.height); // what was painted itself is rounded where strokes overlap
  const on = shown.getContext("2d");
  on.globalCompositeOperation = "destination-in";
  on.drawImage(painted, 0, 0);
  canvas.getContext("2d").drawImage(shown, 0, 0);
  const parameters = { ...entry.parameters, painted_back: true };
  const texts = { pixrt: JSON.stringify(parameters), "XML:com.adobe.xmp": xmpPacket(parameters.pixrt) };
  const { task, prompt, lora, seed, model, sha256, notice } = entry;
  const made = { task, prompt, lora, seed, model, sha256, notice, parameters, parent: entry.id, id: newId() };
  await addResult(made, await withTexts(await toPng(opaque(canvas)), texts));
  chosen.b.value = null;
  select(made.id);
}
