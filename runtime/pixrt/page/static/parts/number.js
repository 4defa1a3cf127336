/** An input for a number that leaves alone what is being typed. */
import { html, useLayoutEffect, useRef } from "../vendor/preact.js";

/**
 * @param {object} props further ones are the input's attributes
 * @param {number|undefined} props.value undefined: nothing; NaN: what stands there is no number
 * @param {(value: number|undefined) => void} props.onValue
 */
export function NumberInput({ value, onValue, ...attributes }) {
  const input = useRef(null);
  const show = () => {
    const { valueAsNumber } = input.current;
    if (Number.isNaN(value) || valueAsNumber === value) return;
    input.current.value = value ?? "";
  };
  useLayoutEffect(() => {
    const isBeingEmptied = document.activeElement === input.current && input.current.value === "";
    if (!isBeingEmptied) show();
  }, [value]);
  const onInput = ({ target }) =>
    onValue(target.value === "" && !target.validity.badInput ? undefined : target.valueAsNumber);
  return html`<input type="number" ref=${input} onInput=${onInput} onBlur=${show} ...${attributes} />`;
}
