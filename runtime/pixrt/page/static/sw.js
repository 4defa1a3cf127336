/*
 * Keeps the page's own files, so that it opens without a network: history, masks and comparisons need none. The page
 * itself is the server's newest; its files are named under a version, and those of another one are forgotten. What the
 * server says under /v1 and the like is never kept.
 */
const KEPT = "pixrt-page";
const WAIT = 3000; // milliseconds after which a kept file is shown instead
const BASE = new URL("../", self.location).pathname;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("message", (event) => {
  // The page says which files it has loaded before there was a worker.
  if (event.data?.files) event.waitUntil(keep(event.data.files));
});

async function keep(files) {
  const cache = await caches.open(KEPT);
  await cache.addAll(files);
  const wanted = new Set(files);
  const others = (await cache.keys()).filter(({ url }) => !wanted.has(url) && !wanted.has(new URL(url).pathname));
  await Promise.all(others.map((request) => cache.delete(request)));
}

self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const isOurs = origin === self.location.origin && (pathname === BASE || pathname.startsWith(`${BASE}page/`));
  if (event.request.method === "GET" && isOurs) event.respondWith(serve(event.request));
});

async function serve(request) {
  const cache = await caches.open(KEPT);
  const kept = await cache.match(request, { ignoreSearch: true });
  const fresh = async () => {
    const answer = await fetch(request);
    if (answer.ok) await cache.put(request, answer.clone());
    return answer;
  };
  if (!kept) return fresh();
  if (new URL(request.url).pathname !== BASE) return kept;
  const late = new Promise((resolve) => setTimeout(resolve, WAIT, kept));
  return Promise.race([fresh().then((answer) => (answer.ok ? answer : kept)), late]).catch(() => kept);
}
