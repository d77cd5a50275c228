// The routes of the fleet, and where a message would go.
import { call, post } from "/console/api.js";
import { button, changes, field, fill, h, table, toast } from "/console/dom.js";
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
    const area = h("textarea", { rows: 20, "aria-label": texts.pages.routes, spellcheck: "false", readonly: !session.may("admin") });
    const outcome = h("div", { role: "status" });
    area.value = JSON.stringify(json.routes, null, 2);
    const review = async () => {
        let routes;
        try {
            routes = JSON.parse(area.value);
        } catch (error) {
            throw new Error(texts.notJson(error.message));
        }
        const { json: plan } = await call("PUT", "/api/v1/routes?dry_run=true", { body: { routes } });
        const save = async () => {
            version = (await call("PUT", "/api/v1/routes", { body: { routes }, headers: { "If-Match": version } })).etag;
            toast(texts.saved);
            fill(outcome);
        };
        fill(outcome, plan.outcome === "unchanged" ? h("p", {}, texts.unchanged) : [changes(plan.changes), button(texts.save, save, { class: "main" })]);
    };
    fill(body, h("p", { class: "soft" }, texts.routesHint), area,
        session.may("admin") ? h("div", { class: "actions" }, button(texts.review, review)) : null, outcome,
        session.may("operator") ? drawExplain() : null);
}
