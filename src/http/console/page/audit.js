// Who changed which client of the fleet.
import { get } from "/console/api.js";
import { ago, button, field, fill, h, table } from "/console/dom.js";
import { texts } from "/console/texts.js";

const keys = ["id_prefix", "by", "action"];
const actions = ["create", "replace", "patch", "apply", "pause", "resume", "delete", "reencrypt"];

function drawForm(chosen) {
    const form = h("form", { class: "filters", role: "search", onsubmit: (event) => {
        event.preventDefault();
        location.hash = `#/audit?${new URLSearchParams(keys.filter((key) => form.elements[key].value.trim()).map((key) => [key, form.elements[key].value.trim()]))}`;
    } },
    field(texts.idPrefix, "id_prefix", { value: chosen.get("id_prefix") }), field(texts.who, "by", { value: chosen.get("by") }),
    field(texts.action, "action", { value: chosen.get("action") ?? "" }, [["", texts.any], ...actions.map((one) => [one, one])]),
    h("button", { class: "main" }, texts.search), h("a", { href: "#/audit" }, texts.clear));
    return form;
}

export async function showAudit({ body, signal, query }) {
    const chosen = new URLSearchParams(keys.filter((key) => query.get(key)).map((key) => [key, query.get(key)]));
    const list = h("div", {}), pager = h("div", { class: "actions" });
    async function load(cursor) {
        const { changes, next_cursor: next } = await get(`/api/v1/changes?${new URLSearchParams([...chosen, ["limit", 50], ...(cursor ? [["cursor", cursor]] : [])])}`, signal);
        fill(list, table(texts.pages.audit, [{ title: texts.time }, { title: texts.who }, { title: texts.client }, { title: texts.action }, { title: texts.fields },
            { title: texts.version, number: true }, { title: texts.operation }],
        changes.map((one) => [ago(one.at), one.by, h("a", { href: `#/client/${encodeURIComponent(one.client)}` }, one.client), one.action,
            (one.fields ?? []).join(", "), one.to_version === null ? null : String(one.to_version), one.operation ? h("a", { href: "#/operations" }, one.operation) : null])));
        fill(pager, cursor ? button(texts.firstPage, () => load(null)) : null, next ? button(texts.nextPage, () => load(next)) : null);
    }
    fill(body, h("p", { class: "soft" }, texts.auditHint), drawForm(chosen), list, pager);
    await load(null);
}
