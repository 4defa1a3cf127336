/** Small helps for components. */
import { useEffect, useState } from "../vendor/preact.js";
import { pictureUrl, thumbUrl } from "./history.js";

/** The address of an entry's picture ("picture") or thumbnail ("thumb"), or "" before it is there. */
export function useUrl(part, id) {
  const [found, setFound] = useState({ id: null, url: "" });
  useEffect(() => {
    let isWanted = true;
    const url = id && (part === "thumb" ? thumbUrl(id) : pictureUrl(id));
    if (url) url.then((made) => isWanted && setFound({ id, url: made }), () => {});
    return () => (isWanted = false);
  }, [part, id]);
  return found.id === id ? found.url : "";
}

/** An object URL of a blob, for as long as the component shows it. */
export function useBlobUrl(blob) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    if (!blob) return setUrl("");
    const made = URL.createObjectURL(blob);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return url;
}

/** Draw the component again every second, while `isOn`. */
export function useClock(isOn) {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!isOn) return undefined;
    const timer = setInterval(() => tick((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, [isOn]);
}
