// A new client: form, test step by step, creation; or a file of many.
import { post } from "/console/api.js";
import { button, field, fill, h, table, toast } from "/console/dom.js";
import { texts } from "/console/texts.js";

const presets = {
    plain: { url: "mqtt://broker.example.com:1883", protocol_version: 4 },
    tls: { url: "mqtts://broker.example.com:8883", protocol_version: 5 },
    ws: { url: "wss://broker.example.com:443/mqtt", protocol_version: 5 },
};
const batchLen = 200;

function documentOf(form) {
    const value = (name) => form.elements[name].value.trim();
    const document = { id: value("id") || value("client_id"), url: value("url"),
        ...(value("client_id") ? { client_id: value("client_id") } : {}),
        ...(form.elements.preset.value ? { protocol_version: presets[form.elements.preset.value].protocol_version } : {}) };
    if (value("username")) document.username = value("username");
    if (value("password")) document.password = form.elements.password.value;
    if (value("filter")) document.subscriptions = [{ filter: value("filter"), qos: Number(value("qos")) }];
    const labels = Object.fromEntries(value("labels").split(",").map((one) => one.split("=").map((part) => part.trim())).filter(([name]) => name));
    if (Object.keys(labels).length > 0) document.labels = labels;
    return document;
}

function drawSteps(report) {
    return table(report.ok ? texts.testOk : texts.test, [{ title: texts.step }, { title: texts.result }, { title: texts.ms, number: true }, { title: texts.detail }, { title: texts.advice }],
        report.steps.map((step) => [step.step, h("span", { class: step.ok ? "good" : "bad" }, step.ok ? texts.ok : texts.failed), step.ms.toFixed(1), step.detail, step.advice]));
}

function drawOne() {
    const outcome = h("div", { role: "status" });
    const area = h("textarea", { name: "json", rows: 14, spellcheck: "false" });
    const form = h("form", { class: "form", onsubmit: (event) => event.preventDefault() },
        field(texts.preset, "preset", { value: "plain", onchange: () => { form.elements.url.value = presets[form.elements.preset.value].url; } }, Object.entries(texts.presets)),
        field(texts.url, "url", { value: presets.plain.url, required: true }), field(texts.id, "id"), field(texts.clientId, "client_id"),
        field(texts.username, "username"), field(texts.password, "password", { type: "password", autocomplete: "new-password" }),
        field(texts.topicFilter, "filter"), field(texts.qos, "qos", { value: "1" }, [["0", "0"], ["1", "1"], ["2", "2"]]),
        field(texts.labels, "labels"), h("label", { class: "wide" }, texts.json, area));
    let taken = ""; // what came from the form; a text that was not edited since follows the form
    const fromForm = () => { area.value = taken = JSON.stringify(documentOf(form), null, 2); };
    const read = () => {
        if (!area.value.trim() || area.value === taken) fromForm();
        try {
            return JSON.parse(area.value);
        } catch (error) {
            throw new Error(texts.notJson(error.message));
        }
    };
    return h("div", {}, h("p", { class: "soft" }, texts.newIntro), form,
        h("div", { class: "actions" }, button(texts.fromForm, fromForm),
            button(texts.test, async () => fill(outcome, drawSteps(await post("/api/v1/clients:test", read())))),
            button(texts.create, async () => {
                const made = await post("/api/v1/clients", read());
                toast(texts.created(made.id));
                location.hash = `#/client/${encodeURIComponent(made.id)}`;
            }, { class: "main" })),
        outcome);
}

// An array, an object, or an object per line.
function clientsOf(text) {
    try {
        const whole = JSON.parse(text);
        return Array.isArray(whole) ? whole : whole.clients ?? [whole];
    } catch (error) {
        const lines = text.split("\n").filter((line) => line.trim());
        if (lines.length < 2) throw new Error(texts.notJson(error.message));
        return lines.map((line) => JSON.parse(line));
    }
}

function drawImport() {
    const outcome = h("div", { role: "status" });
    const bar = h("progress", { value: 0, max: 1, hidden: true, "aria-label": texts.importTitle });
    const file = field(texts.chooseFile, "file", { type: "file", accept: ".json,.ndjson,.jsonl,application/json" });
    const run = async () => {
        const chosen = file.querySelector("input").files[0];
        if (!chosen) return;
        const clients = clientsOf(await chosen.text());
        const sum = { created: 0, changed: 0, unchanged: 0, failed: [] };
        bar.hidden = false;
        bar.max = clients.length;
        for (let at = 0; at < clients.length; at += batchLen) {
            const told = await post("/api/v1/clients:apply", clients.slice(at, at + batchLen));
            for (const name of ["created", "changed", "unchanged"]) sum[name] += told[name];
            sum.failed.push(...told.failed.map((one) => ({ ...one, index: one.index + at })));
            bar.value = Math.min(clients.length, at + batchLen);
        }
        fill(outcome, h("p", {}, texts.importDone(sum.created, sum.changed, sum.unchanged, sum.failed.length)),
            sum.failed.length > 0 ? table(texts.failed, [{ title: texts.line, number: true }, { title: texts.id }, { title: texts.detail }],
                sum.failed.slice(0, 200).map((one) => [one.index + 1, one.id, one.detail])) : null);
    };
    return h("div", {}, h("h2", {}, texts.importTitle), h("p", { class: "soft" }, texts.importHint),
        h("div", { class: "actions" }, file, button(texts.importTitle, run)), bar, outcome);
}

export async function showNew({ body }) {
    fill(body, drawOne(), drawImport());
}
