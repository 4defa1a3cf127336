/** Light or dark: as the system says, or as chosen. */
import { effect, signal } from "../vendor/preact.js";
import { getSetting, onSetting, setSetting } from "./history.js";

export const THEMES = ["auto", "light", "dark"];
export const theme = signal("auto");

/** Read what was chosen, here or later on another page. */
export async function openTheme() {
  const read = async () => (theme.value = (await getSetting("theme")) ?? "auto");
  await read();
  onSetting((name) => name === "theme" && read());
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
  });
}

/** @param {"auto"|"light"|"dark"} name */
export async function setTheme(name) {
  theme.value = name;
  await setSetting("theme", name);
}
