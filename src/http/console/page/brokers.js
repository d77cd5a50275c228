// The brokers of the fleet's clients.
import { get } from "/console/api.js";
import { ago, every, h, missing, number, redraw, table } from "/console/dom.js";
import { texts } from "/console/texts.js";

const rtt = (ping) => (ping ? `${ping.p50} / ${ping.p99}` : null);

function drawIncident(incident) {
    return incident ? h("div", {}, h("span", { class: "bad" }, ago(incident.since)), " ", incident.message,
        incident.advice ? h("div", { class: "soft" }, incident.advice) : null) : null;
}

const counts = (clients) => Object.entries(clients).filter(([name, count]) => name !== "all" && count > 0)
    .map(([name, count]) => `${name} ${number(count)}`).join(", ");

export async function showBrokers({ body, signal }) {
    await every(3000, signal, body, async () => {
        const answer = await get("/api/v1/brokers", signal);
        redraw(body, answer, () => [missing(answer.incomplete),
            table(texts.pages.brokers, [{ title: texts.broker }, { title: texts.clients, number: true }, { title: texts.clientsByState }, { title: texts.incident },
                { title: texts.connectRate, number: true }, { title: texts.roundTrip, number: true }, { title: texts.certificate }],
            answer.brokers.map((one) => [h("a", { href: `#/clients?${new URLSearchParams({ broker: one.broker })}` }, one.broker), number(one.clients.all),
                counts(one.clients), drawIncident(one.incident), number(one.connects_per_s), rtt(one.ping_ms), ago(one.certificate_expires_at)]))]);
    });
}
