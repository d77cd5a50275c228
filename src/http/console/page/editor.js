// A document that is changed as JSON: what would change is shown before it is saved.
import { button, changes, fill, h } from "/console/dom.js";
import { texts } from "/console/texts.js";

// plan(document) tells {outcome, changes, note}; without it the document is only shown. save(document) stores
// it. close: called by Cancel; null: no such button. more(read, outcome): further buttons.
export function drawEditor({ label, value, rows = 14, plan = null, save, close = null, more = () => [] }) {
    const area = h("textarea", { rows, "aria-label": label, spellcheck: "false", readonly: !plan });
    const outcome = h("div", { role: "status" });
    area.value = JSON.stringify(value, null, 2);

    function read() {
        try {
            return JSON.parse(area.value);
        } catch (error) {
            throw new Error(texts.notJson(error.message));
        }
    }

    async function keep(document) {
        try {
            await save(document);
        } catch (error) {
            if (error.status === 412) error.message = texts.changedMeanwhile;
            throw error;
        }
        fill(outcome);
    }

    async function review() {
        fill(outcome);
        const document = read();
        const planned = await plan(document);
        fill(outcome, planned.outcome === "unchanged" ? h("p", {}, texts.unchanged)
            : [planned.changes.length > 0 ? changes(planned.changes) : null, planned.note, button(texts.save, () => keep(document), { class: "main" })]);
    }

    return h("div", {}, area, plan ? h("div", { class: "actions" }, more(read, outcome), button(texts.review, review),
        close ? button(texts.cancel, close) : null) : null, outcome);
}
