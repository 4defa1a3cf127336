// How far two pictures differ: as a picture, brightened as wanted, and in numbers.
import { html, signal, useEffect, useRef, useSignal } from "../vendor/preact.js";
import { pictureOf } from "../core/history.js";
import { decode, difference } from "../core/pictures.js";
import { t } from "../core/texts.js";
import { labelOf } from "./comparison.js";
import { transformOf, view } from "./zooming.js";

const GAINS = [1, 2, 4, 8, 16, 32];
const gain = signal(1);

/** The difference of two entries, in a frame that `frame(children)` makes. */
export function Difference({ before, after, frame }) {
  const canvas = useRef(null);
  const numbers = useSignal(null);
  useEffect(() => {
    let isWanted = true;
    draw(before.id, after.id, canvas, () => isWanted).then(
      (found) => isWanted && (numbers.value = found),
      () => {},
    );
    return () => (isWanted = false);
  }, [before.id, after.id, gain.value]);
  const words = t("viewer.differenceOf", { a: labelOf(before), b: labelOf(after) });
  const style = { transform: transformOf(view.value) };
  return html`
    ${frame(html`
      <div class="viewer-layer difference">
        <canvas ref=${canvas} role="img" aria-label=${words} class="pixelated" style=${style}></canvas>
      </div>
    `)}
    <div class="viewer-gain">
      <label>
        <span>${t("viewer.gain")}</span>
        <select value=${gain.value} onChange=${(event) => (gain.value = Number(event.target.value))}>
          ${GAINS.map((each) => html`<option value=${each}>× ${each}</option>`)}
        </select>
      </label>
      <p role="status">${numbers.value && t("viewer.differs", numbers.value)}</p>
    </div>
  `;
}

async function draw(before, after, canvas, isWanted) {
  const [one, other] = await Promise.all([before, after].map(async (id) => decode(await pictureOf(id))));
  if (!isWanted()) return null;
  const numbers = measure(difference(one, other));
  const shown = difference(one, other, gain.value);
  Object.assign(canvas.current, { width: shown.width, height: shown.height });
  canvas.current.getContext("2d").drawImage(shown, 0, 0);
  for (const bitmap of [one, other]) bitmap.close();
  return numbers;
}

/** How many pixels differ, in percent, and by how much at most, of 255. */
function measure(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  let most = 0;
  for (let at = 0; at < data.length; at += 4) {
    const here = Math.max(data[at], data[at + 1], data[at + 2]);
    if (here > 0) count += 1;
    if (here > most) most = here;
  }
  const percent = (400 * count) / data.length;
  return { percent: percent > 0 && percent < 1 ? "< 1" : Math.round(percent), most };
}
