// One client: status, configuration with a diff before it is saved, history, live messages.
import { call, clientPath, events, get, post } from "/console/api.js";
import { ago, button, confirm, details, every, field, fill, h, number, problem, redraw, section, state, table, toast } from "/console/dom.js";
import { drawEditor } from "/console/editor.js";
import { texts } from "/console/texts.js";

const shownMax = 200;

/* ---- status ---- */

function drawStatus(client) {
    const { status } = client;
    const sum = (messages, bytes) => texts.messagesBytes(number(messages), number(bytes));
    return [
        details([
            [texts.state, state(status.state)], [texts.since, ago(status.since)], [texts.reason, status.reason],
            [texts.placement, client.placement?.node], [texts.broker, status.broker],
            [texts.waitingFor, status.waiting?.message], [texts.connectedAt, ago(status.connected_at)], [texts.retryAt, ago(status.next_retry_at)],
            [texts.lastError, status.last_error ? h("span", {}, `${status.last_error.code}: ${status.last_error.message} `, ago(status.last_error.at),
                status.last_error.advice ? h("div", {}, status.last_error.advice) : null) : null],
            [texts.received, sum(status.messages_in, status.bytes_in)], [texts.published, sum(status.messages_out, status.bytes_out)],
            [texts.lastMessageAt, status.last_message_at === undefined ? undefined : ago(status.last_message_at)],
            [texts.dropped, number(status.messages_dropped)], [texts.reconnects, number(status.reconnects)],
            [texts.certificate, ago(status.certificate_expires_at)], [texts.version, client.version],
            [texts.profileVersion, status.profile ?? client.config?.profile]]),
        table(texts.subscriptions, [{ title: texts.filter }, { title: texts.qos, number: true }, { title: texts.granted }],
            status.subscriptions.map((one) => [one.filter, one.qos, one.granted === null ? null : String(one.granted)])),
        status.refused_filters?.length > 0 ? table(texts.refused, [{ title: texts.filter }, { title: texts.reason }],
            status.refused_filters.map((one) => [one.filter, one.message])) : null];
}

// Who changed the configuration.
function drawAudit(list) {
    return table(texts.audit, [{ title: texts.time }, { title: texts.who }, { title: texts.action }, { title: texts.field }, { title: texts.version, number: true }],
        [...list].reverse().map((one) => [ago(one.at), one.by, one.action, (one.fields ?? []).join(", "), one.to_version]));
}

// How long the client was in each state. The table has the same in words.
function drawTimeline(list) {
    if (list.length === 0) return null;
    const ends = [...list.slice(1).map((one) => Date.parse(one.at)), Date.now()];
    const parts = list.map((one, at) => {
        const part = h("span", { class: one.to, title: `${one.at}: ${one.to}, ${one.reason}` });
        part.style.flexGrow = Math.max(ends[at] - Date.parse(one.at), 1);
        return part;
    });
    return [h("div", { class: "timeline", role: "img", "aria-label": texts.timeline }, parts),
        h("div", { class: "ends soft" }, ago(list[0].at), h("span", {}, texts.now))];
}

function drawHistory(list, status) {
    const takeovers = list.filter((one) => /taken_over|conflict/.test(one.reason) || one.to === "conflict");
    return [
        status.state === "conflict" && takeovers.length > 0 ? h("div", { class: "error" }, texts.takeovers,
            h("ul", {}, takeovers.map((one) => h("li", {}, one.at, " ", ago(one.at))))) : null,
        drawTimeline(list),
        table(texts.history, [{ title: texts.time }, { title: texts.from }, { title: texts.to }, { title: texts.reason }, { title: texts.node }],
            [...list].reverse().map((one) => [ago(one.at), state(one.from), state(one.to), one.reason, one.node]))];
}

/* ---- actions ---- */

function drawActions(id, client, session, reload) {
    if (!session.may("operator")) return null;
    const act = (action) => button(texts.actions[action], async () => {
        await call("POST", clientPath(id, action));
        toast(texts.done(texts.actions[action], id));
        await reload();
    });
    return h("div", { class: "actions" }, client.desired === "paused" ? act("resume") : act("pause"), act("restart"),
        session.wholeFleet ? act("release") : null,
        button(texts.actions.delete, async () => {
            if (!await confirm(texts.actions.delete, h("p", {}, texts.deleteConfirm(id)), texts.actions.delete, true)) return;
            await call("DELETE", clientPath(id));
            location.hash = "#/clients";
        }, { class: "danger" }));
}

/* ---- configuration ---- */

function drawConfiguration(id, session, reload) {
    const place = h("div", {});
    let version = null;

    async function load() {
        const { json: client, etag } = await call("GET", clientPath(id));
        version = etag;
        fill(place, h("pre", {}, JSON.stringify(client.config, null, 2)), session.may("operator") && client.config
            ? button(texts.edit, () => edit(client.config)) : null);
    }

    function edit(config) {
        fill(place, drawEditor({ label: texts.configuration, value: config, rows: 24, plan, save, close: load }));
        place.querySelector("textarea").focus();
    }

    async function plan(document) {
        const { failed: [failed], results: [result] } = await post("/api/v1/clients:apply?dry_run=true", [{ ...document, id }]);
        if (failed) throw Object.assign(new Error(failed.detail), { errors: failed.errors });
        return { outcome: result.outcome, changes: result.changes ?? [] };
    }

    async function save(document) {
        await call("PUT", clientPath(id), { body: document, headers: version ? { "If-Match": version } : {} });
        toast(texts.saved);
        await load();
        await reload();
    }

    return { place, load };
}

/* ---- live messages ---- */

function payloadText(message, form) {
    const bytes = message.payload_base64 !== undefined
        ? Uint8Array.from(atob(message.payload_base64), (one) => one.charCodeAt(0)) : new TextEncoder().encode(message.payload ?? "");
    if (form === "hex" || (message.payload_base64 !== undefined && form !== "text")) return [...bytes].map((one) => one.toString(16).padStart(2, "0")).join(" ");
    const text = new TextDecoder().decode(bytes);
    if (form === "json") {
        try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
    }
    return text;
}

function drawLive(id, signal) {
    const list = h("div", { class: "messages", role: "log", "aria-label": texts.live, tabindex: 0 });
    const form = field(texts.showAs, "form", { value: "text" }, Object.entries(texts.forms));
    const note = h("p", { class: "soft", role: "status" });
    let watching = null;
    const add = (message) => {
        list.prepend(h("article", {}, h("div", {}, h("code", {}, message.topic), " ",
            h("span", { class: "soft" }, `QoS ${message.qos}${message.retain ? `, ${texts.retain}` : ""}, ${number(message.size)} B, `, ago(message.received_at))),
        h("pre", {}, payloadText(message, form.querySelector("select").value), message.truncated ? ` ${texts.truncated}` : "")));
        while (list.childElementCount > shownMax) list.lastElementChild.remove();
    };
    const start = h("button", { type: "button", onclick: async () => {
        if (watching) {
            watching.abort();
            return;
        }
        watching = new AbortController();
        signal.addEventListener("abort", () => watching?.abort());
        start.textContent = texts.stop;
        try {
            for await (const { event, data } of events(clientPath(id, "messages"), watching.signal)) {
                if (event === "dropped") fill(note, texts.missed(data.count));
                else if (data.topic !== undefined) add(data);
            }
            fill(note, texts.streamEnded);
        } catch (error) {
            if (error.name !== "AbortError") fill(note, problem(error));
        }
        watching = null;
        start.textContent = texts.watch;
    } }, texts.watch);
    return h("div", {}, h("div", { class: "actions" }, start, form), note, list);
}

/* ---- publications ---- */

function drawPublish(id) {
    const form = h("form", { class: "form", onsubmit: (event) => event.preventDefault() },
        field(texts.topic, "topic", { required: true }), field(texts.qos, "qos", { value: "1" }, [["0", "0"], ["1", "1"], ["2", "2"]]),
        field(texts.retain, "retain", { type: "checkbox" }), field(texts.payload, "payload", { rows: 4 }));
    return h("div", {}, form, h("div", { class: "actions" }, button(texts.publish, async () => {
        if (!form.reportValidity()) return;
        const answer = await post(clientPath(id, "publish"), { topic: form.elements.topic.value, payload: form.elements.payload.value,
            qos: Number(form.elements.qos.value), retain: form.elements.retain.checked });
        toast(texts.publishDone(answer?.reason_code));
    }, { class: "main" })));
}

function drawPending(id) {
    const place = h("div", {});
    const load = async () => {
        const { publications: list } = await get(clientPath(id, "publications"));
        fill(place, table(texts.pending, [{ title: texts.topic }, { title: texts.qos, number: true }, { title: texts.size, number: true },
            { title: texts.age, number: true }, { title: texts.tries, number: true }, { title: texts.state }],
        list.map((one) => [one.topic, one.qos, number(one.bytes), `${Math.round(one.age_ms / 1000)} s`, one.tries, one.state])),
        h("div", { class: "actions" }, button(texts.refresh, load), list.length > 0 ? button(texts.drop, async () => {
            if (!await confirm(texts.drop, h("p", {}, texts.dropConfirm), texts.drop, true)) return;
            await call("DELETE", clientPath(id, "publications"));
            await load();
        }, { class: "danger" }) : null));
    };
    return { place, load };
}

/* ---- the page ---- */

export async function showClient({ body, signal, session, rest }) {
    const [id] = rest;
    const status = h("div", {}), history = h("div", {}), actions = h("div", {}), audit = h("div", {});
    const reload = async () => {
        const client = await get(clientPath(id), signal);
        redraw(actions, client.desired, () => drawActions(id, client, session, reload));
        redraw(status, client, () => drawStatus(client));
        await section(history, async () => {
            const { events: list } = await get(clientPath(id, "events"), signal);
            redraw(history, [list, client.status.state, Math.floor(Date.now() / 60000)], () => drawHistory(list, client.status));
        });
        await section(audit, async () => {
            const { changes: list } = await get(clientPath(id, "changes"), signal);
            redraw(audit, list, () => drawAudit(list));
        });
    };
    await reload();
    const configuration = drawConfiguration(id, session, reload);
    const pending = session.may("operator") ? drawPending(id) : null;
    fill(body, actions,
        h("div", { class: "two" }, h("div", {}, h("h2", {}, texts.status), status),
            h("div", {}, h("h2", {}, texts.history), history)),
        h("h2", {}, texts.configuration), configuration.place, h("h2", {}, texts.audit), audit,
        session.may("operator") ? [h("h2", {}, texts.live), drawLive(id, signal), h("h2", {}, texts.publish), drawPublish(id),
            h("h2", {}, texts.pending), pending.place] : null);
    await configuration.load();
    if (pending) await section(pending.place, pending.load);
    await every(3000, signal, status, reload);
}
