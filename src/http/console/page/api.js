// The public API of the node that served this page. The token stays in memory only.

let token = null;

export function useToken(text) { token = text; }
export function hasToken() { return token !== null; }

// An answer that is no success, or no answer (status 0).
export class Problem extends Error {
    constructor(status, body, text) {
        super(body?.detail || body?.title || text || `HTTP ${status}`);
        this.status = status;
        this.errors = body?.errors ?? [];
        this.advice = body?.advice ?? null;
        this.body = body;
    }
}

async function send(method, path, { body, headers = {}, signal, accept = "application/json" } = {}) {
    const all = { Accept: accept, ...headers };
    if (token !== null) all.Authorization = `Bearer ${token}`;
    if (body !== undefined && !all["Content-Type"]) all["Content-Type"] = "application/json";
    try {
        return await fetch(path, {
            method, headers: all, signal, cache: "no-store", credentials: "same-origin",
            body: body === undefined ? undefined : JSON.stringify(body),
        });
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Problem(0, null, error.message);
    }
}

// {status, json, etag}; throws a Problem.
export async function call(method, path, options) {
    const answer = await send(method, path, options);
    const text = await answer.text();
    let json = null;
    try { json = text ? JSON.parse(text) : null; } catch { json = null; }
    if (!answer.ok) throw new Problem(answer.status, json, text.slice(0, 300));
    return { status: answer.status, json, etag: answer.headers.get("ETag") };
}

export const get = async (path, signal) => (await call("GET", path, { signal })).json;
export const post = async (path, body, signal) => (await call("POST", path, { body, signal })).json;

export const segment = (name) => encodeURIComponent(name).replace(/^\.+$/, (dots) => "%2E".repeat(dots.length));
export const clientPath = (id, action) => `/api/v1/clients/${segment(id)}${action ? `/${action}` : ""}`;

// The events of a stream, as {event, data}; ends with the stream or the signal.
export async function* events(path, signal) {
    const answer = await send("GET", path, { signal, accept: "text/event-stream" });
    if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => null), "");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        if (rest.length > 4_000_000) throw new Problem(0, null, "an event is too long");
        for (const block of blocks) {
            const event = { event: "message", data: "" };
            for (const line of block.split("\n")) {
                if (line.startsWith("event:")) event.event = line.slice(6).trim();
                if (line.startsWith("data:")) event.data += line.slice(5).trim();
            }
            if (event.data) yield { event: event.event, data: JSON.parse(event.data) };
        }
    }
}
