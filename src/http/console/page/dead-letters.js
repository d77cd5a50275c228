// Messages that sinks gave up: replay or delete.
import { call, get } from "/console/api.js";
import { ago, button, confirm, field, fill, h, number, table, toast } from "/console/dom.js";
import { texts } from "/console/texts.js";

const keys = ["sink", "client", "topic"];

// All steps of a job that answers with a cursor.
async function runAll(path, count) {
    let cursor = "", sum = 0;
    do {
        const { json } = await call("POST", `${path}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
        sum += count(json);
        cursor = json.next_cursor;
    } while (cursor);
    return sum;
}

export async function showDeadLetters({ body, signal, session, query }) {
    const selector = new URLSearchParams(keys.filter((key) => query.get(key)).map((key) => [key, query.get(key)]));
    const list = h("div", {}), more = h("div", { class: "actions" });
    const form = h("form", { class: "filters", role: "search", onsubmit: (event) => {
        event.preventDefault();
        location.hash = `#/deadLetters?${new URLSearchParams(keys.filter((key) => form.elements[key].value).map((key) => [key, form.elements[key].value]))}`;
    } }, field(texts.sink, "sink", { value: query.get("sink") }), field(texts.client, "client", { value: query.get("client") }),
    field(texts.topicFilter, "topic", { value: query.get("topic") }), h("button", { class: "main" }, texts.search));

    const chosen = selector.toString() ? selector.toString() : "all=true";
    const act = async (verb, title, question, told, count) => {
        if (!await confirm(title, h("p", {}, question), title, verb === "drop")) return;
        toast(told(number(await runAll(`/api/v1/dead-letters:${verb}?${chosen}`, count))));
        await load(null);
    };
    async function load(cursor) {
        const answer = await get(`/api/v1/dead-letters?limit=100&${selector}${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`.replace(/&$/, ""), signal);
        fill(list, h("p", { class: "soft" }, texts.deadLettersWait(number(answer.total))),
            table(texts.pages.deadLetters, [{ title: texts.time }, { title: texts.sink }, { title: texts.client }, { title: texts.topic }, { title: texts.reason }, { title: texts.payload }],
                answer.dead_letters.map((one) => [ago(one.rejected_at), one.sink, one.client, one.topic, one.reason, h("code", {}, (one.payload ?? one.payload_base64 ?? "").slice(0, 200))])));
        fill(more, cursor ? button(texts.firstPage, () => load(null)) : null, answer.next_cursor ? button(texts.nextPage, () => load(answer.next_cursor)) : null);
    }
    fill(body, form, session.wholeFleet ? h("div", { class: "actions" },
        button(texts.replayAll, () => act("replay", texts.replayAll, texts.replayConfirm, texts.replayed, (json) => json.replayed ?? 0)),
        button(texts.dropAll, () => act("drop", texts.dropAll, texts.dropLettersConfirm, texts.droppedLetters, (json) => json.dropped ?? 0), { class: "danger" })) : null, list, more);
    await load(null);
}
