// Keeps the page for the time without a network. What is large, the model and the runtime, download.js keeps.

const KEPT = "dualvqa-page";

self.addEventListener("install", (event) => event.waitUntil(keepAll().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  const ours = request.method === "GET" && request.url.startsWith(self.registration.scope);
  if (ours && !/\.(onnx|wasm)$|\/model\//.test(new URL(request.url).pathname)) event.respondWith(newest(request));
});

// files.json, written by the export, names all that the page is made of.
async function keepAll() {
  const files = await (await fetch("files.json")).json();
  const small = Object.keys(files).filter((name) => !name.endsWith(".wasm"));
  await (await caches.open(KEPT)).addAll(["./", "files.json", ...small]);
}

// From the network, so that a new page is seen at once; without one, as it was kept.
async function newest(request) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const known = await cache.match(request, { ignoreSearch: true });
    if (known) return known;
    throw error;
  }
}
