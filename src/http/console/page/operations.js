// Work on many clients that goes on in the fleet.
import { call, get, segment } from "/console/api.js";
import { ago, button, every, h, number, redraw, state, table } from "/console/dom.js";
import { texts } from "/console/texts.js";

const name = (one) => `${one.action} ${one.selector ?? ""}`.trim();
const counts = (reasons) => Object.entries(reasons).map(([reason, count]) => `${reason} ${number(count)}`).join(", ");

// The first clients that could not be changed.
function drawFailures(one) {
    return one.failures.length > 0 ? h("details", {}, h("summary", {}, texts.failed), h("ul", {}, one.failures.map((failure) => h("li", {},
        h("a", { href: `#/client/${encodeURIComponent(failure.id)}` }, failure.id), ` ${failure.reason}`, failure.detail ? `: ${failure.detail}` : null)))) : null;
}

export async function showOperations({ body, signal, session }) {
    const reload = async () => {
        const answer = await get("/api/v1/operations", signal);
        redraw(body, answer, () => table(texts.pages.operations, [{ title: texts.operation }, { title: texts.state }, { title: texts.progress }, { title: texts.clients, number: true },
                { title: texts.failed, number: true }, { title: texts.reason }, { title: texts.rate, number: true }, { title: texts.who }, { title: texts.started2 }, { title: "" }],
            answer.operations.map((one) => [name(one), state(one.state),
                h("progress", { value: one.done + one.failed + one.skipped, max: one.total || 1, "aria-label": name(one) }),
                `${number(one.done)} / ${number(one.total)}`, number(one.failed), h("div", {}, counts(one.reasons), drawFailures(one)), number(one.speed), one.by, ago(one.started_at),
                one.state === "running" && session.may("operator") ? button(texts.cancelOperation, async () => {
                    await call("POST", `/api/v1/operations/${segment(one.id)}:cancel`);
                    await reload();
                }) : null])));
    };
    await every(1000, signal, body, reload);
}
