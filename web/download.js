// The model's files: downloaded with their progress told, checked, and kept for the next time.

const KEPT = "dualvqa-model";
const AGAIN = "Whoever made this page should export the model again.";

// A JSON file of this page; the newest where there is a network, else the one from before.
export async function readJson(address) {
  const cache = await opened();
  try {
    const response = await received(address, { cache: "no-cache" });
    const found = await response.clone().json().catch(() => {
      throw new Error(`${fileName(address)} is damaged. ${AGAIN}`);
    });
    await keep(cache, address, response);
    return found;
  } catch (error) {
    const known = error.offline && (await cache?.match(address));
    if (!known) throw error;
    return known.json();
  }
}

// files: name -> {address, digest} of its content. Gives name -> Uint8Array, and `tell(loaded, total)` is called with
// bytes as they come. What this page kept of others before is forgotten.
export async function readFiles(files, tell) {
  const cache = await opened();
  const progress = {};
  const sum = (key) => Object.values(progress).reduce((total, one) => total + one[key], 0);
  const read = async ([name, { address, digest }]) => {
    const content = await readFile(cache, versioned(address, digest), digest, (loaded, total) => {
      progress[name] = { loaded, total };
      tell(sum("loaded"), sum("total"));
    });
    return [name, content];
  };
  const contents = Object.fromEntries(await Promise.all(Object.entries(files).map(read)));
  await forgetOthers(cache, Object.values(files));
  return contents;
}

// The content's hash in the address: another content is another file, for every cache on the way.
function versioned(address, digest) {
  return Object.assign(new URL(address), { search: `sha256=${digest}` }).href;
}

async function readFile(cache, address, digest, tell) {
  const known = await cache?.match(address);
  if (known) {
    const content = new Uint8Array(await known.arrayBuffer());
    tell(content.length, content.length);
    return content;
  }
  const content = await body(await received(address), address, tell);
  if (globalThis.crypto?.subtle && (await hash(content)) !== digest) {
    throw new Error(`${fileName(address)} is not the file that was exported: it was damaged or replaced on its way.`);
  }
  await keep(cache, address, new Response(content));
  return content;
}

async function received(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw lost(address);
  }
  if (response.status === 404) throw new Error(`${fileName(address)} is missing on this page's server.`);
  if (!response.ok) throw new Error(`The server answered ${response.status} when asked for ${fileName(address)}.`);
  return response;
}

async function body(response, address, tell) {
  const length = response.headers.get("Content-Encoding") ? 0 : Number(response.headers.get("Content-Length"));
  const chunks = [];
  let loaded = 0;
  try {
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      chunks.push(value);
      loaded += value.length;
      tell(loaded, Math.max(length, loaded));
    }
  } catch {
    throw lost(address);
  }
  if (length && loaded !== length) throw lost(address);
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

function lost(address) {
  const message = `The network was lost while ${fileName(address)} was downloaded. What came whole is kept: try again.`;
  return Object.assign(new Error(message), { offline: true });
}

function fileName(address) {
  return new URL(address).pathname.split("/").pop();
}

async function hash(content) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Browsers have no cache for pages of plain http, and some none in private windows: the page works without.
async function opened() {
  return globalThis.caches?.open(KEPT).catch(() => undefined);
}

async function keep(cache, address, response) {
  await cache?.put(address, response).catch(() => {}); // a full disk is no reason not to answer
}

async function forgetOthers(cache, files) {
  const wanted = new Set(files.map(({ address, digest }) => versioned(address, digest)));
  const page = new URL(".", import.meta.url).href;
  for (const { url } of (await cache?.keys()) ?? []) {
    if (url.startsWith(page) && url.includes("?sha256=") && !wanted.has(url)) await cache.delete(url);
  }
}
