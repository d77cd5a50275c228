// The brokers of the fleet's clients.
import { getIfAny } from "/console/api.js";
import { ago, every, h, number, redraw, table } from "/console/dom.js";
import { texts } from "/console/texts.js";

const rtt = (one) => {
    const p50 = one.ping_p50_ms ?? one.round_trip?.p50_ms, p99 = one.ping_p99_ms ?? one.round_trip?.p99_ms;
    return p50 === undefined || p50 === null ? null : `${p50} / ${p99 ?? "–"}`;
};
const error = (one) => (one.first_error ? `${one.first_error.code ?? ""} ${one.first_error.message ?? one.first_error}`.trim() : null);

export async function showBrokers({ body, signal }) {
    await every(3000, signal, body, async () => {
        const answer = await getIfAny("/api/v1/brokers", signal);
        redraw(body, answer, () => (answer === null ? h("p", { class: "soft" }, texts.noBrokersRoute)
            : table(texts.pages.brokers, [{ title: texts.broker }, { title: texts.clientsByState }, { title: texts.incidentSince }, { title: texts.firstError },
                { title: texts.connectRate, number: true }, { title: texts.roundTrip, number: true }, { title: texts.certificate }],
            answer.brokers.map((one) => [h("a", { href: `#/clients?${new URLSearchParams({ broker: one.broker })}` }, one.broker),
                Object.entries(one.clients ?? {}).filter(([, count]) => count > 0).map(([name, count]) => `${name} ${count.toLocaleString("en")}`).join(", "),
                h("span", { class: "bad" }, ago(one.incident_since) ?? ""), error(one), number(one.connects_per_s), rtt(one), one.certificate_expires_at]))));
    });
}
