// Cloudflare's D1 HTTP API, as documented, over a D1 binding: the engine, its SQL and its limits are D1's own.

const ROUTE = /^\/client\/v4\/accounts\/([^/]+)\/d1\/database\/([^/]+)\/(query|raw)$/;

export default {
  async fetch(request, env) {
    const route = new URL(request.url).pathname.match(ROUTE);
    if (route === null || request.method !== "POST") return failure(404, 7003, "Could not route to the path");
    if (request.headers.get("Authorization") !== `Bearer ${env.TOKEN}`) return failure(403, 10000, "Authentication error");
    const [, account, id, form] = route;
    const database = account === env.ACCOUNT ? env[`DB_${env.DATABASES.indexOf(id)}`] : undefined;
    if (database === undefined) return failure(404, 7404, `The database ${id} could not be found`);

    const { sql, params = [], batch = [{ sql, params }] } = await request.json();
    if (!batch.every((one) => typeof one.sql === "string" && (one.params ?? []).every((value) => typeof value === "string")))
      return failure(400, 7400, "params must be strings");
    try {
      const results = [];
      for (const one of batch) results.push(await run(database, one, form)); // not atomic: nobody promises that it is
      return Response.json({ success: true, errors: [], messages: [], result: results });
    } catch (error) {
      return failure(400, 7500, String(error.message).replace(/^D1_ERROR: /, ""));
    }
  },
};

async function run(database, { sql, params = [] }, form) {
  const statement = database.prepare(sql).bind(...params);
  if (form === "query") return await statement.all();
  const [columns, ...rows] = await statement.raw({ columnNames: true });
  return { success: true, meta: {}, results: { columns, rows } };
}

function failure(status, code, message) {
  return Response.json({ success: false, errors: [{ code, message }], messages: [], result: null }, { status });
}
