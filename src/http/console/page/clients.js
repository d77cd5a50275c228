// Search over all clients, and actions for all that match.
import { call, get, Problem } from "/console/api.js";
import { ago, button, confirm, field, fill, h, number, problem, state, table, toast } from "/console/dom.js";
import { texts } from "/console/texts.js";

const states = ["waiting", "connecting", "online", "backoff", "conflict", "paused"];
const keys = ["state", "error", "broker", "node", "id_prefix", "profile"];
const page = 50;

// The selector of the address: known keys and labels.
function selectorOf(query) {
    const selector = new URLSearchParams();
    for (const [name, value] of query) {
        if (value !== "" && (keys.includes(name) || name.startsWith("label.") || name === "silent" || name === "degraded")) selector.set(name, value);
    }
    return selector;
}

function drawForm(query, session) {
    const label = [...query].find(([name]) => name.startsWith("label."));
    const form = h("form", { class: "filters", role: "search", onsubmit: (event) => {
        event.preventDefault();
        const chosen = new URLSearchParams();
        for (const name of keys) if (form.elements[name]?.value) chosen.set(name, form.elements[name].value.trim());
        const [labelName, ...labelValue] = form.elements.label.value.split("=");
        if (labelName.trim()) chosen.set(`label.${labelName.trim()}`, labelValue.join("=").trim());
        for (const name of ["silent", "degraded"]) if (form.elements[name].checked) chosen.set(name, "true");
        location.hash = `#/clients?${chosen}`;
    } },
    field(texts.state, "state", { value: query.get("state") ?? "" }, [["", texts.any], ...states.map((one) => [one, one])]),
    field(texts.idPrefix, "id_prefix", { value: query.get("id_prefix") }),
    field(texts.broker, "broker", { value: query.get("broker"), placeholder: "host:port" }),
    field(texts.error, "error", { value: query.get("error") }),
    session.wholeFleet ? field(texts.node, "node", { value: query.get("node") }) : null,
    field(texts.label, "label", { value: label ? `${label[0].slice(6)}=${label[1]}` : "" }),
    field(texts.profile, "profile", { value: query.get("profile") }),
    field(texts.silent, "silent", { type: "checkbox", checked: query.get("silent") === "true" }),
    field(texts.degraded, "degraded", { type: "checkbox", checked: query.get("degraded") === "true" }),
    h("button", { class: "main" }, texts.search),
    h("a", { href: "#/clients" }, texts.clear));
    return form;
}

function whyNot(status) {
    const error = status.state === "online" ? null : status.last_error;
    const waiting = status.waiting;
    return [waiting ? h("div", {}, waiting.message) : null, error ? h("div", { title: error.advice ?? "" }, `${error.code}: ${error.message}`) : null,
        status.degraded ? h("div", { class: "warn" }, texts.degraded) : null, status.silent ? h("div", { class: "warn" }, texts.silent) : null];
}

function drawRows(clients) {
    return table(texts.pages.clients, [{ title: texts.id }, { title: texts.state }, { title: texts.since }, { title: texts.node },
        { title: texts.broker }, { title: texts.lastError }],
    clients.map((client) => [
        h("a", { href: `#/client/${encodeURIComponent(client.id)}` }, client.id), state(client.status.state), ago(client.status.since),
        client.placement?.node, client.status.broker, h("div", {}, ...whyNot(client.status).filter(Boolean))]));
}

// How many match, by a dry run; then the operation. options: the body of a patch.
async function bulk(action, selector, options = {}) {
    const title = texts.actions[action] ?? texts.patch;
    const path = `/api/v1/clients:${action}?${selector}`;
    const { json: plan } = await call("POST", `${path}&dry_run=true`, options);
    const count = plan.total;
    const agreed = await confirm(texts.bulkConfirm(title, number(count)), h("p", { class: "soft" }, String(selector)),
        title, action === "delete");
    if (!agreed) return;
    const { json: operation } = await call("POST", path, options);
    toast(texts.started(operation.id));
    location.hash = "#/operations";
}

function drawPatch(selector) {
    const area = h("textarea", { rows: 4, "aria-label": texts.patchDocument, placeholder: '{"keepalive_s": 60}', spellcheck: "false" });
    const run = async () => {
        let body;
        try {
            body = JSON.parse(area.value);
        } catch (error) {
            throw new Error(texts.notJson(error.message));
        }
        await bulk("patch", selector, { body, headers: { "Content-Type": "application/merge-patch+json" } });
    };
    return [h("label", {}, texts.patchDocument, area), h("div", { class: "actions" }, button(texts.patch, run))];
}

function drawBulk(selector, session) {
    if (!session.may("operator")) return null;
    const empty = [...selector].length === 0;
    return h("details", {}, h("summary", {}, texts.bulk),
        empty ? h("p", { class: "soft" }, texts.bulkNeedsSelector)
            : h("div", { class: "actions" }, Object.keys(texts.actions).map((action) =>
                button(texts.actions[action], () => bulk(action, selector), { class: action === "delete" ? "danger" : null }))),
        empty ? null : drawPatch(selector));
}

export async function showClients({ body, signal, session, query }) {
    const selector = selectorOf(query);
    const counted = h("p", { class: "soft", role: "status" });
    const list = h("div", {}, h("p", { class: "soft" }, texts.loading));
    const pager = h("div", { class: "actions" });
    fill(body, drawForm(query, session), counted, drawBulk(selector, session), list, pager);

    async function load(cursor) {
        const path = `/api/v1/clients?${selector}&limit=${page}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`;
        const answer = await get(path.replace("?&", "?"), signal);
        fill(list, drawRows(answer.clients));
        fill(pager, cursor ? button(texts.firstPage, () => load(null)) : null,
            answer.next_cursor ? button(texts.nextPage, () => load(answer.next_cursor)) : null);
    }
    try {
        await load(null);
        const summary = await get(`/api/v1/summary?by=state&${selector}`.replace(/&$/, ""), signal);
        fill(counted, texts.selected(number(summary.count)));
    } catch (error) {
        if (!(error instanceof Problem) || error.status === 401) throw error;
        fill(list, problem(error));
    }
}
