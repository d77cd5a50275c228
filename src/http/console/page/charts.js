// The last hour of the fleet, drawn by dygraphs. A table beside each chart is its legend, and says
// the same without it.
import { get } from "/console/api.js";
import { every, fill, h, missing, number } from "/console/dom.js";
import { texts } from "/console/texts.js";

const hourMs = 3600000, periodMs = 10000;

// name: of the series, which is the group of its style too; pattern: of the line, null: solid.
const charts = [
    { name: "clients", group: "clients", lines: [["online", null], ["connecting", [7, 3]], ["backoff", null], ["conflict", [2, 2]], ["paused", [7, 3]]] },
    { name: "messages", group: "per_s", lines: [["messages_in", null], ["messages_out", [7, 3]], ["publications_failed", null], ["messages_dropped", [2, 2]]] },
    { name: "bytes", group: "per_s", lines: [["bytes_in", null], ["bytes_out", [7, 3]]] },
];

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const shown = (value) => (value === null || value === undefined ? "–" : value < 100000 ? number(Math.round(value * 100) / 100) : compact.format(value));
const known = (values) => values.filter((value) => value !== null);
const timeOf = (at) => new Date(at).toLocaleTimeString("en-GB");

// dygraphs without its plug-ins that write styles and HTML: a legend, labels, annotations. Loaded once.
let library = null;
async function load() {
    if (!library) {
        await import("/console/dygraph.min.js");
        library = window.Dygraph;
        library.PLUGINS = [library.Plugins.Axes, library.Plugins.Grid];
    }
    return library;
}

const colour = (element, name) => getComputedStyle(element).getPropertyValue(name).trim();

/* ---- one chart ------------------------------------------------------------------------------- */

class Chart {
    constructor(kind) {
        this.kind = kind;
        this.canvas = h("div", { class: "chart", "aria-hidden": "true" });
        this.when = h("th", { scope: "col", class: "number" }, texts.newest);
        this.cells = kind.lines.map(() => [0, 1, 2].map(() => h("td", { class: "number" })));
        this.element = h("figure", {}, h("figcaption", {}, texts.charts[kind.name]), this.canvas, h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": texts.charts[kind.name] },
            h("table", {}, h("caption", {}, texts.charts[kind.name]),
                h("thead", {}, h("tr", {}, h("th", { scope: "col" }, texts.series), this.when, h("th", { scope: "col", class: "number" }, texts.lowest), h("th", { scope: "col", class: "number" }, texts.highest))),
                h("tbody", {}, kind.lines.map(([line], i) => h("tr", {}, h("th", { scope: "row" }, h("span", { class: `line ${line}` }), texts.lines[line] ?? line), this.cells[i]))))));
    }

    // at null: the newest sample.
    showAt(at) {
        const row = at === null ? this.rows.length - 1 : at;
        this.when.textContent = at === null ? texts.newest : timeOf(this.rows[row][0]);
        this.cells.forEach(([cell], i) => { cell.textContent = shown(this.rows[row][i + 1]); });
    }

    options() {
        const styles = this.kind.lines.map(([line]) => colour(this.element.querySelector(`.line.${line}`), "border-top-color"));
        const end = this.rows.at(-1)[0];
        return { file: this.rows, labels: ["", ...this.kind.lines.map(([line]) => line)], dateWindow: [end - hourMs, end.getTime()], includeZero: true,
            colors: styles, strokeWidth: 1.5, axisLineColor: colour(this.element, "--line"), gridLineColor: colour(this.element, "--line"), axisLabelFontSize: 12,
            series: Object.fromEntries(this.kind.lines.map(([line, pattern]) => [line, { strokePattern: pattern }])),
            axes: { y: { axisLabelFormatter: (value) => compact.format(value) } },
            highlightCallback: (event, x, points, row) => this.showAt(row), unhighlightCallback: () => this.showAt(null), interactionModel: {} };
    }

    // library null: only the table.
    update(answer, Dygraph) {
        const series = this.kind.lines.map(([line]) => answer[this.kind.group][line]);
        const from = Date.parse(answer.from);
        this.rows = answer.nodes.map((_, i) => [new Date(from + i * answer.interval_s * 1000), ...series.map((values) => values[i])]);
        series.forEach((values, i) => {
            this.cells[i][1].textContent = shown(Math.min(...known(values)));
            this.cells[i][2].textContent = shown(Math.max(...known(values)));
        });
        this.showAt(null);
        this.draw(Dygraph);
    }

    draw(Dygraph) {
        if (!Dygraph || !this.rows) return;
        if (this.graph) this.graph.updateOptions(this.options());
        else this.graph = new Dygraph(this.canvas, this.rows, this.options());
    }

    end() { this.graph?.destroy(); }
}

/* ---- all of them ----------------------------------------------------------------------------- */

export async function drawCharts(place, signal) {
    const all = charts.map((kind) => new Chart(kind));
    const note = h("div", { role: "status" }), scheme = matchMedia("(prefers-color-scheme: dark)");
    const frame = h("div", {}, h("h2", {}, texts.lastHour), note, h("div", { class: "charts" }, all.map((chart) => chart.element)));
    let Dygraph = null;
    scheme.addEventListener("change", () => all.forEach((chart) => chart.draw(Dygraph)), { signal });
    signal.addEventListener("abort", () => all.forEach((chart) => chart.end()), { once: true });
    await every(periodMs, signal, place, async () => {
        const answer = await get("/api/v1/time-series", signal);
        Dygraph = await load();
        if (signal.aborted) return;
        if (frame.parentNode !== place) fill(place, frame);
        const counts = answer.nodes.filter((count) => count > 0);
        fill(note, missing(answer.incomplete), answer.from === null ? h("p", { class: "soft" }, texts.noSamples) : null,
            counts.some((count) => count < counts.at(-1)) ? h("p", { class: "soft" }, texts.fewerNodes) : null);
        if (answer.from !== null) all.forEach((chart) => chart.update(answer, Dygraph));
    });
}
