// What a browser must have to answer: WebAssembly with its SIMD instructions.

// A function that gives a constant vector: no browser without SIMD takes it.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

// What is missing, in words, or null.
export function whatIsMissing(browser = globalThis) {
  const { WebAssembly } = browser;
  if (typeof WebAssembly !== "object") {
    return "This browser has no WebAssembly, or it is switched off (some do that in a protected mode). Without it nothing can be computed here: switch it on, or open this page in another browser.";
  }
  if (!WebAssembly.validate(new Uint8Array(SIMD))) {
    return "This browser is too old: its WebAssembly has no SIMD instructions. Chrome and Edge have them from version 91, Firefox from 89, Safari from 16.4.";
  }
  return null;
}

// How many threads may compute: several only where the server isolates the page from other sites.
export function threads(browser = globalThis) {
  return browser.crossOriginIsolated ? Math.min(4, browser.navigator.hardwareConcurrency ?? 1) : 1;
}
