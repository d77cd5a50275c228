// The nodes: load, drain, levelling.
import { call, get, segment } from "/console/api.js";
import { ago, button, confirm, every, h, number, redraw, state, table, toast } from "/console/dom.js";
import { texts } from "/console/texts.js";

function drawAction(node, session, reload) {
    if (!session.may("operator") || !["live", "draining"].includes(node.state)) return null;
    const action = node.state === "draining" ? "undrain" : "drain";
    return button(texts[action], async () => {
        if (action === "drain" && !await confirm(texts.drain, h("p", {}, texts.drainConfirm(node.name)), texts.drain, true)) return;
        await call("POST", `/api/v1/nodes/${segment(node.name)}/${action}`);
        await reload();
    }, { "aria-label": `${texts[action]} ${node.name}` });
}

export async function showNodes({ body, signal, session }) {
    const reload = async () => {
        const answer = await get("/api/v1/nodes", signal);
        const shown = answer.nodes.map(({ beat_age_ms: _, ...node }) => node);
        redraw(body, shown, () => [
            table(texts.nodes, [{ title: texts.name }, { title: texts.state }, { title: texts.clients, number: true }, { title: texts.places, number: true },
                { title: texts.load }, { title: texts.version }, { title: texts.address }, { title: texts.started2 }, { title: "" }],
            answer.nodes.map((node) => [h("span", {}, node.name, node.leader ? ` (${texts.leader})` : ""), state(node.state), number(node.clients), number(node.size),
                h("meter", { min: 0, max: node.size || 1, value: node.clients, "aria-label": `${node.name}: ${texts.load}` }),
                node.version, `${node.host}:${node.port}`, ago(node.started_at), drawAction(node, session, reload)])),
            session.may("operator") ? h("div", { class: "actions" }, button(texts.level, async () => {
                await call("POST", "/api/v1/nodes:rebalance");
                toast(texts.levelStarted);
            })) : null]);
    };
    await every(2000, signal, body, reload);
}
