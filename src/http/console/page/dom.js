// Builds elements. Texts of brokers and clients are hostile: they only ever become text nodes.
import { texts } from "/console/texts.js";

// h("a", {href, class, onclick}, "text", child, ...): attributes are set as attributes, functions as
// listeners, true as an empty attribute; null and false are left out.
export function h(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (value === null || value === undefined || value === false) continue;
        if (typeof value === "function") element.addEventListener(key.slice(2), value);
        else element.setAttribute(key, value === true ? "" : String(value));
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
        .map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
    return element;
}

export function fill(element, ...children) {
    element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    return element;
}

// columns: [{title, number}]; rows: arrays of cells.
export function table(caption, columns, rows) {
    return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
        h("table", {},
            h("caption", {}, caption),
            h("thead", {}, h("tr", {}, columns.map((column) =>
                h("th", { scope: "col", class: column.number ? "number" : null }, column.title)))),
            h("tbody", {}, rows.length === 0
                ? h("tr", {}, h("td", { colspan: columns.length, class: "soft" }, texts.nothing))
                : rows.map((row) => h("tr", {}, row.map((cell, i) =>
                    h("td", { class: columns[i].number ? "number" : null }, cell ?? "–")))))));
}

export function details(pairs) {
    return h("dl", {}, pairs.filter(([, value]) => value !== undefined)
        .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value ?? "–")]));
}

const kinds = { online: "good", working: "good", live: "good", running: "good", done: "good", connecting: "warn", waiting: "warn",
    draining: "warn", leaving: "warn", paused: "soft", backoff: "bad", conflict: "bad", failing: "bad", dead: "bad",
    missing: "bad", unavailable: "bad", cancelled: "soft" };
export const state = (name) => h("span", { class: `state ${kinds[name] ?? "soft"}` }, name ?? "–");

export const number = (value) => (typeof value === "number" ? value.toLocaleString("en") : null);

// "3 min ago", with the whole time as its title.
export function ago(time) {
    const at = Date.parse(time ?? "");
    if (Number.isNaN(at)) return null;
    const s = Math.round((Date.now() - at) / 1000);
    const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
    const [size, unit] = units.find(([one]) => Math.abs(s) >= one) ?? [1, "s"];
    const text = `${Math.floor(Math.abs(s) / size)} ${unit}`;
    return h("time", { datetime: time, title: time }, s < 0 ? texts.in(text) : texts.ago(text));
}

// The clients that stand in the way: ids, or {id, detail}.
function concerned(clients) {
    return Array.isArray(clients) && clients.length > 0 ? h("ul", {}, clients.map((one) => h("li", {},
        h("a", { href: `#/client/${encodeURIComponent(one.id ?? one)}` }, one.id ?? one), one.detail ? ` ${one.detail}` : null))) : null;
}

export function problem(error) {
    return h("div", { class: "error", role: "alert" },
        h("strong", {}, error.message),
        error.advice ? h("p", {}, error.advice) : null,
        concerned(error.body?.clients),
        error.errors?.length > 1 ? h("ul", {}, error.errors.map((one) => h("li", {}, h("code", {}, one.pointer || "/"), " ", one.detail))) : null);
}

export function toast(text) {
    const line = h("p", {}, text);
    document.getElementById("toasts").append(line);
    setTimeout(() => line.remove(), 6000);
}

// Resolves to true or false.
export function confirm(title, body, action, danger = false) {
    return new Promise((resolve) => {
        const dialog = h("dialog", { "aria-label": title },
            h("h2", {}, title), body,
            h("div", { class: "actions" },
                h("button", { class: danger ? "danger" : "main", onclick: () => dialog.close("yes") }, action),
                h("button", { onclick: () => dialog.close("") }, texts.cancel)));
        dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue === "yes"); });
        document.body.append(dialog);
        dialog.showModal();
    });
}

// A labelled control; options make it a select.
export function field(label, name, attributes = {}, options = null) {
    const control = options
        ? h("select", { name, ...attributes }, options.map(([value, text]) =>
            h("option", { value, selected: value === (attributes.value ?? "") }, text)))
        : h(attributes.rows ? "textarea" : "input", { name, autocomplete: "off", ...attributes });
    if (attributes.rows && attributes.value) control.value = attributes.value;
    return h("label", { class: attributes.type === "checkbox" ? "check" : attributes.rows ? "wide" : null }, label, control);
}

// Runs now and then every ms until the signal ends; a failure is shown in the place.
export async function every(ms, signal, place, run) {
    while (!signal.aborted) {
        try {
            await run();
        } catch (error) {
            if (error.name === "AbortError") return;
            fill(place, problem(error));
            if (error.status === 401) throw error;
        }
        await new Promise((resolve) => {
            const timer = setTimeout(resolve, ms);
            signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
        });
    }
}

// A button whose work is shown until it ends; errors become a message beside it.
export function button(text, run, attributes = {}) {
    const element = h("button", { type: "button", ...attributes, onclick: async () => {
        element.disabled = true;
        element.nextElementSibling?.classList.contains("error") && element.nextElementSibling.remove();
        try {
            await run();
        } catch (error) {
            if (error.name !== "AbortError") element.after(problem(error));
        } finally {
            element.disabled = false;
        }
    } }, text);
    return element;
}

export function changes(list) {
    const show = (value) => (value === undefined ? null : h("code", {}, JSON.stringify(value)));
    return table(texts.changes, [{ title: texts.field }, { title: texts.before }, { title: texts.after }],
        list.map((one) => (one.more ? [texts.more(one.more), null, null] : [h("code", {}, one.field || "/"), show(one.before), show(one.after)])));
}

// The nodes whose share is missing in an answer; null: none.
export function missing(incomplete) {
    return incomplete.length > 0 ? h("p", { class: "warn", role: "status" }, texts.incomplete(incomplete.map((one) => one.node))) : null;
}

// A section of a page: a failure is shown in its place, and the rest of the page stays.
export async function section(place, run) {
    try {
        await run();
    } catch (error) {
        if (error.name === "AbortError" || error.status === 401) throw error;
        fill(place, problem(error));
    }
}

// Draws again only if the data has changed, and keeps the focus where it was.
const drawn = new WeakMap();
export function redraw(place, data, draw) {
    const key = JSON.stringify(data);
    if (drawn.get(place) === key && !place.querySelector(":scope > .error")) return;
    drawn.set(place, key);
    const active = place.contains(document.activeElement) ? document.activeElement : null;
    const sign = (element) => `${element.tagName} ${element.getAttribute("href") ?? ""} ${element.getAttribute("aria-label") ?? element.textContent}`;
    const wanted = active ? sign(active) : null;
    fill(place, draw());
    if (wanted) [...place.querySelectorAll("a, button, [tabindex]")].find((element) => sign(element) === wanted)?.focus({ preventScroll: true });
}
