// The routes of the fleet, and where a message would go.
import { call, post } from "/console/api.js";
import { button, field, fill, h, table, toast } from "/console/dom.js";
import { drawEditor } from "/console/editor.js";
import { texts } from "/console/texts.js";

function drawExplain() {
    const outcome = h("div", { role: "status" });
    const form = h("form", { class: "form", onsubmit: (event) => event.preventDefault() },
        field(texts.topic, "topic", { required: true }), field(texts.client, "client"), field(texts.payload, "payload", { rows: 3 }));
    const names = (list) => (list?.length > 0 ? list.join(", ") : null);
    return h("div", {}, h("h2", {}, texts.explain), h("p", { class: "soft" }, texts.explainHint), form,
        h("div", { class: "actions" }, button(texts.explain, async () => {
            if (!form.reportValidity()) return;
            const question = { topic: form.elements.topic.value };
            if (form.elements.client.value) question.client = form.elements.client.value;
            if (form.elements.payload.value) question.payload = form.elements.payload.value;
            const told = await post("/api/v1/routes:explain", question);
            fill(outcome, table(texts.matched, [{ title: texts.matched }, { title: texts.to }, { title: texts.also }],
                [[(told.matched ?? []).map((one) => one.name ?? one.route).join(", "), names(told.to), names(told.also)]]),
            told.scripted?.length > 0 ? [h("h2", {}, texts.scripted), h("pre", {}, JSON.stringify(told.scripted, null, 2))] : null);
        }, { class: "main" })), outcome);
}

export async function showRoutes({ body, signal, session }) {
    const { json, etag } = await call("GET", "/api/v1/routes", { signal });
    let version = etag;
    const plan = async (routes) => (await call("PUT", "/api/v1/routes?dry_run=true", { body: { routes } })).json;
    const save = async (routes) => {
        version = (await call("PUT", "/api/v1/routes", { body: { routes }, headers: { "If-Match": version } })).etag;
        toast(texts.saved);
    };
    fill(body, h("p", { class: "soft" }, texts.routesHint),
        drawEditor({ label: texts.pages.routes, value: json.routes, rows: 20, plan: session.may("admin") ? plan : null, save }),
        session.may("operator") ? drawExplain() : null);
}
