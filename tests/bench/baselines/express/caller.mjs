// A warm execution environment, as tests/bench/caller.py is one: `node caller.mjs MODULE DESCRIPTOR`. Each line of
// standard input, {"event": …}, is answered by a line on DESCRIPTOR with the milliseconds that it took.
import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { pathToFileURL } from "node:url";

const [module, descriptor] = process.argv.slice(2);
const { handler } = await import(pathToFileURL(path.resolve(module)).href);

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { event } = JSON.parse(line);
  const begun = performance.now();
  const before = process.cpuUsage();
  const answer = await handler(event, {});
  const { user, system } = process.cpuUsage(before);
  const told = { cpu: (user + system) / 1000, wall: performance.now() - begun, answer };
  fs.writeSync(Number(descriptor), `${JSON.stringify(told)}\n`);
}
