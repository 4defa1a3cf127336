/*
 * Keeps the page's own files, so that it opens without a network: history, masks and comparisons need none. The
 * server's newest files come first; what it says under /v1 and the like is never kept.
 */
const KEPT = "pixrt-page";
const WAIT = 3000; // milliseconds after which a kept file is shown instead
const BASE = new URL("../", self.location).pathname;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("message", (event) => {
  // The page says which files it has loaded before there was a worker.
  if (event.data?.files) event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(event.data.files)));
});

self.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const isOurs = origin === self.location.origin && (pathname === BASE || pathname.startsWith(`${BASE}page/`));
  if (event.request.method === "GET" && isOurs) event.respondWith(serve(event.request));
});

async function serve(request) {
  const cache = await caches.open(KEPT);
  const kept = await cache.match(request, { ignoreSearch: true });
  const fresh = fetch(request).then(async (answer) => {
    if (answer.ok) await cache.put(request, answer.clone());
    return answer;
  });
  if (!kept) return fresh;
  const late = new Promise((resolve) => setTimeout(resolve, WAIT, kept));
  return Promise.race([fresh.then((answer) => (answer.ok ? answer : kept)), late]).catch(() => kept);
}
