// Serves worker.mjs on loopback until its standard input ends. Prints its address when it is ready.

import { readFileSync } from "node:fs";
import { Miniflare } from "miniflare";

const { token, account, databases } = JSON.parse(process.argv[2]);
const miniflare = new Miniflare({
  host: "127.0.0.1",
  port: 0,
  modules: [{ type: "ESModule", path: "worker.mjs", contents: readFileSync(new URL("worker.mjs", import.meta.url)) }],
  compatibilityDate: "2026-04-01",
  bindings: { TOKEN: token, ACCOUNT: account, DATABASES: databases },
  d1Databases: Object.fromEntries(databases.map((id, number) => [`DB_${number}`, id])),
  telemetry: { enabled: false },
  cf: false,
});
console.log((await miniflare.ready).origin);

process.stdin.on("end", async () => {
  await miniflare.dispose();
  process.exit(0);
});
process.stdin.resume();
