// Messages that sinks gave up: replay or delete.
import { call, get } from "/console/api.js";
import { ago, button, confirm, field, fill, h, number, table } from "/console/dom.js";
import { texts } from "/console/texts.js";

const keys = ["sink", "client", "topic"];
const shownMax = 50;

// All steps of a job that answers with a cursor; it ends early when a sink takes nothing.
async function runAll(path) {
    const sum = { matched: 0, done: 0, failed: 0, failures: [], stalled: false };
    let cursor = "";
    do {
        const { json } = await call("POST", `${path}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
        sum.matched += json.matched;
        sum.done += json.replayed ?? json.dropped;
        sum.failed += json.failed ?? 0;
        sum.failures.push(...(json.failures ?? []).slice(0, shownMax - sum.failures.length));
        sum.stalled = json.stalled === true;
        cursor = json.next_cursor;
    } while (cursor && !sum.stalled);
    return sum;
}

function drawOutcome(verb, sum) {
    return [h("p", {}, texts.letters[verb].told(number(sum.done)), sum.failed > 0 ? `, ${texts.lettersFailed(number(sum.failed))}` : null),
        sum.stalled ? h("p", { class: "warn" }, texts.replayStalled) : null,
        sum.failures.length > 0 ? table(texts.failed, [{ title: texts.entry }, { title: texts.sink }, { title: texts.detail }],
            sum.failures.map((one) => [one.entry, one.sink, one.detail])) : null];
}

export async function showDeadLetters({ body, signal, query }) {
    const selector = new URLSearchParams(keys.filter((key) => query.get(key)).map((key) => [key, query.get(key)]));
    const list = h("div", {}), more = h("div", { class: "actions" });
    const form = h("form", { class: "filters", role: "search", onsubmit: (event) => {
        event.preventDefault();
        location.hash = `#/deadLetters?${new URLSearchParams(keys.filter((key) => form.elements[key].value).map((key) => [key, form.elements[key].value]))}`;
    } }, field(texts.sink, "sink", { value: query.get("sink") }), field(texts.client, "client", { value: query.get("client") }),
    field(texts.topicFilter, "topic", { value: query.get("topic") }), h("button", { class: "main" }, texts.search));

    const outcome = h("div", { role: "status" });
    const run = async (verb, chosen) => {
        fill(outcome, drawOutcome(verb, await runAll(`/api/v1/dead-letters:${verb}?${chosen}`)));
        await load(null);
    };
    const ask = async (verb, count) => confirm(texts.letters[verb].one, h("p", {}, texts.letters[verb].question(count)), texts.letters[verb].one, verb === "drop");
    const actOnAll = async (verb) => {
        const chosen = selector.toString() || "all=true";
        const { matched } = await runAll(`/api/v1/dead-letters:${verb}?${chosen}&dry_run=true`);
        if (await ask(verb, number(matched))) await run(verb, chosen);
    };
    const rowAction = (verb, one, attributes) => button(texts.letters[verb].one, async () => {
        if (verb === "replay" || await ask(verb, number(1))) await run(verb, `entry=${encodeURIComponent(one.entry)}`);
    }, { "aria-label": `${texts.letters[verb].one} ${one.entry}`, ...attributes });
    async function load(cursor) {
        const answer = await get(`/api/v1/dead-letters?limit=100&${selector}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`.replace(/&$/, ""), signal);
        fill(list, h("p", { class: "soft" }, texts.deadLettersWait(number(answer.total))),
            table(texts.pages.deadLetters, [{ title: texts.time }, { title: texts.sink }, { title: texts.client }, { title: texts.topic }, { title: texts.reason }, { title: texts.payload }, { title: "" }],
                answer.dead_letters.map((one) => [ago(one.rejected_at), one.sink, one.client, one.topic, one.reason, h("code", {}, (one.payload ?? one.payload_base64 ?? "").slice(0, 200)),
                    h("div", { class: "actions" }, rowAction("replay", one), rowAction("drop", one, { class: "danger" }))])));
        fill(more, cursor ? button(texts.firstPage, () => load(null)) : null, answer.next_cursor ? button(texts.nextPage, () => load(answer.next_cursor)) : null);
    }
    fill(body, form, h("div", { class: "actions" }, button(texts.letters.replay.all, () => actOnAll("replay")),
        button(texts.letters.drop.all, () => actOnAll("drop"), { class: "danger" })), outcome, list, more);
    await load(null);
}
