// Says of each Flux text on standard input (a JSON list) whether it is valid: node is_valid_flux.mjs FOLDER < texts.json
import { readFileSync } from "node:fs";
const folder = process.argv[2];
const wasmFile = readFileSync(folder + "/flux-lsp-browser_bg.wasm");
let glue = readFileSync(folder + "/flux-lsp-browser_bg.js", "utf8");
// The package is made for a bundler that loads WASM as a module; Node does not, so the exports are handed over.
glue = glue.replace(/^import \* as wasm from .*$/m, "let wasm; export function bind(exports) { wasm = exports; }");
glue = glue.replace(/^let (cached\w+Memory0)( = new \w+\(wasm\.memory\.buffer\))?;$/gm, "let $1 = { byteLength: 0 };");
glue = glue.replace(/^cached\w+Memory0 = new \w+\(wasm\.memory\.buffer\);$/gm, "");
const api = await import("data:text/javascript," + encodeURIComponent(glue));
const { instance } = await WebAssembly.instantiate(wasmFile, { "./flux-lsp-browser_bg.js": api });
api.bind(instance.exports);
const texts = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map((text) => api.is_valid_flux(text))));
