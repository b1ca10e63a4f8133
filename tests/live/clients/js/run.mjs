// Runs programs as a user would, and says what the user sees; the protocol is that of ../python/run.py.
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { format } from "node:util";

const wire = process.stdout.write.bind(process.stdout);
const say = (event) => wire(JSON.stringify(event) + "\n");
let left = null;

process.stdout.write = (text) => {
  text = String(text);
  if (text.trim()) {
    say({ text });
    if (left !== null && --left === 0) process.emit("SIGINT");
  }
  return true;
};
console.log = (...values) => process.stdout.write(format(...values) + "\n");
console.warn = console.error = () => {};
process.on("unhandledRejection", () => {});

const folder = mkdtempSync(join(tmpdir(), "ollama-proxy-clients-"));
symlinkSync(join(import.meta.dirname, "node_modules"), join(folder, "node_modules"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

let number = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  Object.assign(process.env, job.env);
  left = job.stop_after;
  const file = join(folder, `${++number}.mjs`);
  writeFileSync(file, job.code);
  let end = null;
  try {
    await import(pathToFileURL(file).href);
  } catch (error) {
    end = `${error?.name}: ${error?.message}`;
  }
  process.removeAllListeners("SIGINT");
  say({ end });
}
