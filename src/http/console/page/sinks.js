// The sinks: what each node reports, their documents, tests.
import { call, get, post, segment } from "/console/api.js";
import { button, confirm, every, field, fill, h, number, problem, redraw, state, table, toast } from "/console/dom.js";
import { drawEditor } from "/console/editor.js";
import { texts } from "/console/texts.js";

function drawTest(report) {
    return table(report.ok ? texts.testOk : texts.test, [{ title: texts.step }, { title: texts.result }, { title: texts.ms, number: true }, { title: texts.detail }, { title: texts.advice }],
        (report.steps ?? []).map((step) => [step.step, h("span", { class: step.ok ? "good" : "bad" }, step.ok ? texts.ok : texts.failed), step.ms?.toFixed(1), step.detail, step.advice]));
}

// name null: a new one.
function drawSinkEditor(name, config, version, close) {
    const given = name === null ? field(texts.sinkName, "name", { required: true, pattern: "[a-z][a-z0-9_\\-]*" }) : null;
    const path = () => `/api/v1/sinks/${segment(name ?? given.querySelector("input").value.trim())}`;
    return h("div", {}, given, drawEditor({ label: texts.sinkDocument, value: config, close,
        more: (read, outcome) => button(texts.test, async () => fill(outcome, drawTest(await post("/api/v1/sinks:test", read())))),
        plan: async (document) => (await call("PUT", `${path()}?dry_run=true`, { body: document })).json,
        save: async (document) => {
            await call("PUT", path(), { body: document, headers: version ? { "If-Match": `"${version}"` } : {} });
            toast(texts.saved);
            close();
        } }));
}

function latency(node) {
    return node.latency && node.latency.p50_ms !== null && node.latency.p50_ms !== undefined ? `${node.latency.p50_ms} / ${node.latency.p99_ms}` : null;
}

export async function showSinks({ body, signal, session }) {
    const editor = h("div", {}), list = h("div", {});
    const close = () => fill(editor);
    const edit = (sink) => {
        fill(editor, h("h2", {}, sink?.name ?? texts.newSink), drawSinkEditor(sink?.name ?? null, sink?.config ?? { type: "http", url: "https://example.com/" }, sink?.version, close));
        editor.querySelector("input, textarea").focus();
    };
    const actions = (sink) => (session.may("admin") && sink.config ? h("div", { class: "actions" },
        button(texts.edit, () => edit(sink), { "aria-label": `${texts.edit} ${sink.name}` }),
        button(texts.actions.delete, async () => {
            if (!await confirm(texts.actions.delete, h("p", {}, texts.deleteSink(sink.name)), texts.actions.delete, true)) return;
            await call("DELETE", `/api/v1/sinks/${segment(sink.name)}`);
        }, { class: "danger", "aria-label": `${texts.actions.delete} ${sink.name}` })) : null);
    fill(body, session.may("admin") ? h("div", { class: "actions" }, button(texts.newSink, () => edit(null))) : null, editor, list);
    await every(3000, signal, list, async () => {
        const answer = await get("/api/v1/sinks", signal);
        redraw(list, answer, () => [answer.incomplete?.length > 0 ? problem({ message: texts.incomplete(answer.incomplete) }) : null,
            table(texts.sinks, [{ title: texts.name }, { title: texts.type }, { title: texts.origin }, { title: texts.node }, { title: texts.state }, { title: texts.queued, number: true },
                { title: texts.accepted, number: true }, { title: texts.givenUp, number: true }, { title: texts.latency, number: true }, { title: texts.lastError }, { title: "" }],
            answer.sinks.flatMap((sink) => (sink.nodes.length > 0 ? sink.nodes : [{}]).map((node, i) => [i === 0 ? sink.name : "", node.type ?? sink.config?.type, node.origin ?? sink.origin,
                node.node, node.state ? state(node.state) : null, number(node.queued_messages), number(node.accepted), number((node.rejected ?? 0) + (node.expired ?? 0)),
                latency(node), node.not_applied ?? node.last_error, i === 0 ? actions(sink) : ""])))]);
    });
}
