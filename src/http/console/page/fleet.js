// The fleet at a glance: numbers, what needs attention, nodes and sinks.
import { get } from "/console/api.js";
import { drawCharts } from "/console/charts.js";
import { every, fill, h, missing, number, redraw, state, table } from "/console/dom.js";
import { texts } from "/console/texts.js";

const link = (query, text) => h("a", { href: `#/clients?${new URLSearchParams(query)}` }, text);

function errorProblems(errors) {
    return errors.groups.filter((group) => group.value !== null).map((group) => ({
        bad: true,
        text: texts.clientsWith(number(group.count), group.text || group.value),
        advice: group.advice,
        more: link({ error: group.value }, texts.show),
    }));
}

function nodeProblems(nodes) {
    const found = Object.entries(nodes?.unplaced ?? {}).filter(([, count]) => count > 0)
        .map(([reason, count]) => ({ bad: true, text: texts.unplaced(number(count), reason), more: link({ state: "waiting" }, texts.show) }));
    for (const node of nodes?.nodes ?? []) {
        if (node.state !== "live") found.push({ bad: node.state === "dead" || node.state === "missing", text: texts.nodeState(node.name, node.state) });
        const differing = Object.keys(node.differing_settings ?? {});
        if (differing.length > 0) found.push({ text: texts.nodeDiffers(node.name, differing.join(", ")) });
    }
    return found;
}

// One for all nodes on which a sink fails with the same error.
function sinkProblems(sinks) {
    return (sinks?.sinks ?? []).flatMap((sink) => {
        const nodes = new Map();
        for (const node of sink.nodes.filter((one) => one.state !== "working" || one.not_applied)) {
            const error = node.not_applied || node.last_error || node.state;
            nodes.set(error, [...nodes.get(error) ?? [], node.node]);
        }
        return [...nodes].map(([error, names]) => ({
            bad: true,
            text: texts.sinkFailing(sink.name, names.join(", "), error),
            more: h("a", { href: "#/sinks" }, texts.show),
        }));
    });
}

// The fleet's own list, if the node has one: then it is the only one.
function problemsOf({ own, errors, nodes, sinks }) {
    const listed = (own?.problems ?? []).map((one) => ({ bad: one.severity !== "warning", text: one.cause, advice: one.advice,
        more: one.code === "broker_unreachable" ? h("a", { href: "#/brokers" }, texts.show) : null }));
    return [...(own ? listed : nodeProblems(nodes)), ...errorProblems(errors), ...sinkProblems(sinks)];
}

function drawProblems(problems) {
    if (problems.length === 0) return h("p", { class: "good" }, texts.allWell);
    return h("ul", { class: "problems" }, problems.slice(0, 50).map((one) => h("li", { class: one.bad ? "bad" : null },
        h("strong", {}, one.text), one.advice ? h("div", {}, one.advice) : null, one.more ? h("div", {}, one.more) : null)));
}

function drawStates(states) {
    return h("section", { class: "cards", "aria-label": texts.clientsByState },
        h("div", { class: "card" }, h("b", {}, number(states.count)), h("span", {}, texts.total)),
        states.groups.map((group) => h("div", { class: "card" },
            h("b", {}, number(group.count)), link({ state: group.value }, state(group.value)))));
}

function drawNodes(nodes) {
    return [h("h2", {}, texts.nodes), table(texts.nodes, [{ title: texts.name }, { title: texts.state }, { title: texts.clients, number: true },
        { title: texts.places, number: true }, { title: texts.load }],
    nodes.nodes.map((node) => [node.name, state(node.state), number(node.clients), number(node.size),
        h("meter", { min: 0, max: node.size || 1, value: node.clients, "aria-label": `${node.name}: ${texts.load}` })]))];
}

function drawSinks(sinks) {
    return [h("h2", {}, texts.sinks), table(texts.sinks, [{ title: texts.name }, { title: texts.node }, { title: texts.state },
        { title: texts.queued, number: true }, { title: texts.accepted, number: true }],
    sinks.sinks.flatMap((sink) => sink.nodes.map((node) => [sink.name, node.node, state(node.state),
        number(node.queued_messages), number(node.accepted)])))];
}

export async function showFleet({ body, signal, session }) {
    const whole = session.wholeFleet;
    const head = h("div", {}, h("p", { class: "soft" }, texts.loading)), hour = h("div", {}), rest = h("div", {});
    const reload = async () => {
        const [states, errors, nodes, sinks, own, brokers] = await Promise.all([
            get("/api/v1/summary?by=state", signal), get("/api/v1/summary?by=error", signal),
            whole ? get("/api/v1/nodes", signal) : null, whole ? get("/api/v1/sinks", signal) : null,
            whole ? get("/api/v1/problems", signal) : null, get("/api/v1/summary?by=broker&state=backoff", signal)]);
        redraw(head, [states, errors, nodes, sinks, own, brokers], () => [
            missing(states.incomplete),
            drawStates(states),
            h("h2", {}, texts.attention), drawProblems(problemsOf({ own, errors, nodes, sinks })),
            brokers.groups.length > 0 ? [h("h2", {}, texts.brokersInTrouble), table(texts.brokersInTrouble,
                [{ title: texts.broker }, { title: texts.clients, number: true }],
                brokers.groups.map((group) => [link({ broker: group.value ?? "" }, group.value ?? "–"), number(group.count)]))] : null,
        ]);
        redraw(rest, [nodes, sinks], () => h("div", { class: "two" }, h("div", {}, nodes ? drawNodes(nodes) : null), h("div", {}, sinks ? drawSinks(sinks) : null)));
    };
    fill(body, head, hour, rest);
    await Promise.all([every(3000, signal, head, reload), whole ? drawCharts(hour, signal) : null]);
}
