// Calls each operation of docs/openapi.json by the client that is generated from it. Prints one JSON line for each
// answer; test_sdk.py compares them with the document. Arguments: URL of a node n1, URL of a broker.
import createClient from "openapi-fetch";
import type { components, paths } from "./mqfleet.js";

declare const process: { argv: string[] };

type ClientConfig = components["schemas"]["ClientConfig"];
type ClientState = components["schemas"]["ClientState"];

const [, , baseUrl, broker] = process.argv as [string, string, string, string];
const querySerializer = { array: { style: "form", explode: false } } as const;
const api = createClient<paths>({ baseUrl, querySerializer, redirect: "manual" });
api.use({
  onResponse({ request, response, schemaPath }) {
    const media = response.headers.get("Content-Type")?.split(";")[0] ?? null;
    console.log(JSON.stringify({ path: schemaPath, method: request.method.toLowerCase(), status: response.status, media }));
  },
});

// What an operation answers when it works.
function works<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (!answer.response.ok) {
    throw new Error(`${answer.response.url}: ${answer.response.status} ${JSON.stringify(answer.error)}`);
  }
  return answer.data as T;
}

function same(got: unknown, wanted: unknown): void {
  if (got !== wanted) {
    throw new Error(`${JSON.stringify(got)} instead of ${JSON.stringify(wanted)}`);
  }
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 90_000; !(await holds()); ) {
    if (Date.now() > end) {
      throw new Error(`not within 90 s: ${what}`);
    }
    await new Promise((later) => setTimeout(later, 50));
  }
}

const patch = { "Content-Type": "application/merge-patch+json" };
const pump = { path: { id: "pump-1" } };
const config: ClientConfig = {
  id: "pump-1",
  url: broker,
  protocol_version: 5,
  subscriptions: [{ filter: "pumps/1/#", qos: 1 }, "pumps/all"],
  labels: { site: "north" },
  desired: "running",
};

async function reaches(id: string, state: ClientState): Promise<void> {
  await until(`${id} is ${state}`, async () => {
    const client = works(await api.GET("/api/v1/clients/{id}", { params: { path: { id } } }));
    return client.status.state === state;
  });
}

// ---- the node and the fleet ------------------------------------------------------------------------

async function node(): Promise<void> {
  same(works(await api.GET("/livez")).status, "ok");
  same(works(await api.GET("/readyz")).status, "ok");
  same(works(await api.GET("/metrics", { parseAs: "text" })).includes("mqfleet_clients"), true);
  same("openapi" in works(await api.GET("/openapi.json")), true);
  same(works(await api.GET("/console", { parseAs: "text" })).includes("<html"), true);
  works(await api.GET("/console/{file}", { params: { path: { file: "console.js" } }, parseAs: "text" }));
  same(works(await api.GET("/api/v1/caller")).role, "admin");
  same(works(await api.GET("/api/v1/nodes")).nodes.length, 2);
  same(works(await api.GET("/api/v1/nodes/{name}", { params: { path: { name: "n1" } } })).state, "live");
  same(works(await api.GET("/api/v1/nodes:health")).nodes.map((one) => one.name).join(), "n1,n2");
  same(works(await api.GET("/api/v1/time-series")).interval_s > 0, true);
  works(await api.GET("/api/v1/problems")).problems.map((one) => one.severity);
}

async function resources(): Promise<void> {
  const alarms = { path: { name: "alarms" } };
  const sink = { type: "redis_stream", key: "alarms" };
  same(works(await api.GET("/api/v1/sink-types")).types.some((one) => one.type === sink.type), true);
  same(works(await api.POST("/api/v1/sinks:test", { body: sink })).ok, true);
  works(await api.PUT("/api/v1/sinks/{name}", { params: alarms, body: sink }));
  same(works(await api.GET("/api/v1/sinks/{name}", { params: alarms })).config?.type, sink.type);
  same(works(await api.GET("/api/v1/sinks")).sinks.some((one) => one.name === "alarms"), true);

  const north = { path: { name: "north" } };
  works(await api.PUT("/api/v1/client-profiles/{name}", { params: north, body: { url: broker, keepalive_s: 30 } }));
  same(works(await api.GET("/api/v1/client-profiles/{name}", { params: north })).config?.keepalive_s, 30);
  same(works(await api.GET("/api/v1/client-profiles")).profiles.length, 1);

  const routes = [{ name: "hot", match: { topic: "+/+/alarm", qos: [1, 2] }, to: ["alarms"], stop: true }];
  works(await api.PUT("/api/v1/routes", { body: { routes } }));
  same(works(await api.GET("/api/v1/routes")).routes[0]?.match?.topic, "+/+/alarm");
  await until("the node has the routes", async () => {
    const explained = works(await api.POST("/api/v1/routes:explain", { body: { topic: "a/b/alarm", qos: 1 } }));
    return explained.to.join() === "alarms";
  });

  works(await api.PUT("/api/v1/quotas", { body: { quotas: [{ scope: "label.site=north", clients: 100 }] } }));
  same(works(await api.GET("/api/v1/quotas")).quotas[0]?.clients, 100);
}

// ---- clients ---------------------------------------------------------------------------------------

async function oneClient(): Promise<void> {
  const wait = { query: { wait_ms: 60_000 } };
  same(works(await api.POST("/api/v1/clients:test", { body: config })).ok, true);
  const created = works(await api.POST("/api/v1/clients", { params: wait, body: config }));
  same("status" in created ? created.status.state : created.failed, "online");
  const read = works(await api.GET("/api/v1/clients/{id}", { params: { ...pump, query: { effective: true } } }));
  same(read.config?.labels?.["site"], "north");
  const replaced = { ...config, keepalive_s: 20, labels: { site: "north", floor: "2" } };
  works(await api.PUT("/api/v1/clients/{id}", { params: { ...pump, ...wait }, body: replaced }));
  const changed = works(
    await api.PATCH("/api/v1/clients/{id}", {
      params: { ...pump, ...wait },
      headers: patch,
      body: { keepalive_s: null, labels: { floor: null } },
    }),
  );
  same(changed.config?.labels?.["floor"], undefined);
  same(works(await api.POST("/api/v1/clients/{id}/pause", { params: { ...pump, ...wait } })).desired, "paused");
  works(await api.POST("/api/v1/clients/{id}/resume", { params: { ...pump, ...wait } }));
  await reaches("pump-1", "online");
  same(works(await api.POST("/api/v1/clients/{id}/restart", { params: pump })).accepted, "restart");
  same(works(await api.GET("/api/v1/clients/{id}/events", { params: pump })).events.length > 0, true);
  same(works(await api.GET("/api/v1/clients/{id}/changes", { params: pump })).changes[0]?.action !== undefined, true);
  same(works(await api.GET("/api/v1/changes", { params: { query: { id_prefix: "pump", limit: 1 } } })).changes[0]?.client !== undefined, true);
}

async function publications(): Promise<void> {
  const body = { topic: "pumps/1/state", payload: "on", qos: 1, user_properties: { unit: "none" } };
  await until("pump-1 publishes", async () => {
    const sent = await api.POST("/api/v1/clients/{id}/publish", { params: pump, body });
    return ![409, 503, 504].includes(sent.response.status) && works(sent).result === "acknowledged";
  });
  same(works(await api.GET("/api/v1/clients/{id}/publications", { params: pump })).publications.length, 0);
  same(works(await api.DELETE("/api/v1/clients/{id}/publications", { params: pump })).dropped.length, 0);
}

// The data of the first event with this name, and the text of the stream before `begun` has been called.
async function firstEvent(stream: ReadableStream<Uint8Array>, name: string, comment: string, begun: () => Promise<unknown>) {
  let text = "";
  let started = false;
  const reader = stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      throw new Error(`the stream ended: ${text}`);
    }
    text += value;
    if (!started && text.includes(comment)) {
      started = true;
      await begun();
    }
    const data = new RegExp(`^event: ${name}\\ndata: (.*)\\n\\n`, "m").exec(text)?.[1];
    if (data !== undefined) {
      await reader.cancel();
      return JSON.parse(data);
    }
  }
}

async function streams(): Promise<void> {
  const messages = works(await api.GET("/api/v1/clients/{id}/messages", { params: pump, parseAs: "stream" }));
  const message: components["schemas"]["MessageEvent"] = await firstEvent(messages!, "message", "runs on", publications);
  same(message.payload, "on");
  const events = works(await api.GET("/api/v1/events", { params: { query: { kind: "client" } }, parseAs: "stream" }));
  const event: components["schemas"]["FleetEvent"] = await firstEvent(events!, "client", "whole fleet", () =>
    api.POST("/api/v1/clients/{id}/restart", { params: pump }),
  );
  same(event.id, "pump-1");
}

// ---- many clients ----------------------------------------------------------------------------------

const many: ClientConfig[] = Array.from({ length: 20 }, (_, number) => ({
  id: `valve-${number}`,
  profile: "north",
  labels: { site: number % 2 ? "north" : "south", kind: "valve" },
}));
const valves = { query: { id_prefix: ["valve-"], label: { kind: "valve" } } };

type Started = components["schemas"]["OperationCount"] | components["schemas"]["Operation"];

// Its id, once it has ended.
async function ended(started: Started): Promise<string> {
  if (!("id" in started)) {
    throw new Error("it was only counted");
  }
  const { id } = started;
  await until(`operation ${id} ends`, async () => {
    const operation = works(await api.GET("/api/v1/operations/{id}", { params: { path: { id } } }));
    return operation.state === "done" && operation.total === 20;
  });
  return id;
}

async function manyClients(): Promise<void> {
  const created = works(await api.POST("/api/v1/clients", { body: many }));
  same("created" in created ? created.created : created.id, 20);
  const applied = works(await api.POST("/api/v1/clients:apply", { params: { query: { dry_run: true } }, body: many }));
  same(applied.results.every((one) => one.outcome === "unchanged"), true);
  await until("all valves are online", async () => {
    const query = { ...valves.query, state: ["online" as const, "paused" as const], sort: "-since" as const, count: true };
    return works(await api.GET("/api/v1/clients", { params: { query } })).clients.length === 20;
  });
  await until("both sites are counted", async () => {
    const query = { ...valves.query, by: "label.site" };
    const summary = works(await api.GET("/api/v1/summary", { params: { query } }));
    return summary.groups.map((one) => one.count).join() === "10,10";
  });
  same(works(await api.GET("/api/v1/brokers", { params: { query: { limit: 5 } } })).others.brokers, 0);
  same(works(await api.GET("/api/v1/export", { params: valves_of_the_export })).documents.length, 20);

  await ended(works(await api.POST("/api/v1/clients:pause", { params: valves })));
  const slow = works(await api.POST("/api/v1/clients:resume", { params: { query: { ...valves.query, rate: 1 } } }));
  if ("id" in slow) {
    const cancelled = await api.POST("/api/v1/operations/{id}:cancel", { params: { path: { id: slow.id } } });
    same(works(cancelled).state, "cancelled");
  }
  works(await api.POST("/api/v1/clients:resume", { params: valves }));
  await until("all valves are online again", async () => {
    const query = { ...valves.query, state: ["online" as const] };
    return works(await api.GET("/api/v1/clients", { params: { query } })).clients.length === 20;
  });
  const patched = await api.POST("/api/v1/clients:patch", { params: valves, headers: patch, body: { keepalive_s: 45 } });
  await ended(works(patched));
  await ended(works(await api.POST("/api/v1/clients:restart", { params: valves })));
  const released = works(await api.POST("/api/v1/clients:release", { params: { query: { ...valves.query, dry_run: true } } }));
  same("dry_run" in released && released.dry_run, true);
  const deleted = await ended(works(await api.POST("/api/v1/clients:delete", { params: valves })));
  same(works(await api.GET("/api/v1/operations")).operations.some((one) => one.id === deleted), true);
  same(works(await api.POST("/api/v1/clients:reencrypt")).failed, 0);
}

const valves_of_the_export = { query: { secrets: "masked" as const, id_prefix: ["valve-"], label: { kind: "valve" } } };

async function deadLetters(): Promise<void> {
  const all = { query: { all: true, dry_run: true } };
  same(works(await api.GET("/api/v1/dead-letters", { params: { query: { limit: 5 } } })).dead_letters.length, 0);
  same(works(await api.POST("/api/v1/dead-letters:replay", { params: all })).replayed, 0);
  same(works(await api.POST("/api/v1/dead-letters:drop", { params: all })).dropped, 0);
}

// ---- for other programs ----------------------------------------------------------------------------

async function profiles(): Promise<void> {
  const text = { params: { query: { debug: 1 } }, parseAs: "text" as const };
  same((await api.GET("/debug/pprof", { parseAs: "text" })).response.status, 301);
  works(await api.GET("/debug/pprof/", { parseAs: "text" }));
  works(await api.GET("/debug/pprof/heap", { parseAs: "arrayBuffer" }));
  works(await api.GET("/debug/pprof/allocs", text));
  works(await api.GET("/debug/pprof/profile", { params: { query: { seconds: 1 } }, parseAs: "arrayBuffer" }));
  works(await api.GET("/debug/pprof/threads", text));
  works(await api.GET("/debug/pprof/goroutine", text));
  same((await api.GET("/debug/pprof/mutex", { parseAs: "text" })).response.status, 404);
  works(await api.GET("/debug/pprof/cmdline", { parseAs: "text" }));
  works(await api.GET("/debug/pprof/symbol", { parseAs: "text" }));
  works(await api.POST("/debug/pprof/symbol", { parseAs: "text" }));
}

async function goIot(): Promise<void> {
  const [host, port] = broker.replace("mqtt://", "").split(":") as [string, string];
  const flat = { broker: host, port: Number(port), username: "", password: "", sub_topic: "fans/1/#" };
  same(works(await api.GET("/beat", { parseAs: "text" })), "ok");
  same(works(await api.POST("/create_mqtt", { body: { ...flat, client_id: "fan-1" } })).status, 200);
  same(works(await api.POST("/public_create_mqtt", { body: { ...flat, client_id: "fan-2" } })).status, 200);
  same(works(await api.GET("/node_list")).status, 200);
  same(works(await api.GET("/node_using_status")).status, 200);
  const fan = { params: { query: { id: "fan-1" } } };
  await reaches("fan-1", "online");
  same(works(await api.GET("/mqtt_config", fan)).status, 200);
  works(await api.GET("/no_mqtt_config", fan));
  const body = { client_id: "fan-1", topic: "fans/1/set", payload: "on", qos: 0, retained: false };
  same(works(await api.POST("/push_data", { body })).status, 200);
  same(works(await api.GET("/remove_mqtt_client", fan)).status, 200);
}

async function betweenNodes(): Promise<void> {
  works(await api.POST("/fleet/act", { body: { action: "restart", ids: ["nobody"] } }));
  works(await api.POST("/fleet/claim", { body: { clients: [] } }));
  works(await api.POST("/fleet/statuses", { body: { ids: ["pump-1"] } }));
  works(await api.POST("/fleet/brokers", { body: {} }));
  works(await api.POST("/fleet/scope-brokers", { body: { scope: "label.site=north", limit: -1, sort: "id" } }));
  works(await api.POST("/fleet/select", { body: { limit: 2, sort: "id" } }));
  works(await api.POST("/fleet/sinks"));
  works(await api.POST("/fleet/time-series", { body: {} }));
}

// ---- the end ---------------------------------------------------------------------------------------

async function end(): Promise<void> {
  same(works(await api.POST("/api/v1/clients/{id}/release", { params: pump })).accepted, "release");
  await reaches("pump-1", "online");
  works(await api.DELETE("/api/v1/clients/{id}", { params: pump }));
  works(await api.DELETE("/api/v1/client-profiles/{name}", { params: { path: { name: "north" } } }));
  works(await api.PUT("/api/v1/routes", { body: { routes: [] } }));
  works(await api.DELETE("/api/v1/sinks/{name}", { params: { path: { name: "alarms" } } }));
  works(await api.POST("/api/v1/nodes:rebalance"));
  works(await api.POST("/api/v1/nodes/{name}/drain", { params: { path: { name: "n1" } } }));
  works(await api.POST("/api/v1/nodes/{name}/undrain", { params: { path: { name: "n1" } } }));
}

for (const part of [node, resources, oneClient, streams, manyClients, deadLetters, profiles, goIot, betweenNodes, end]) {
  await part();
}
