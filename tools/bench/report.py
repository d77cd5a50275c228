"""Tables and the plot from the results of tools/bench/compare. Medians over the rounds. A ratio to the
floor is computed within each round, then the median is taken."""

import collections
import statistics

NAMES = {"floor": "floor", "libmosquitto": "libmosquitto", "mqtt.js": "mqtt.js",
         "paho-go": "Paho Go", "reactor": "mqfleetd reactor", "paho": "mqfleetd paho"}
NODES = ("reactor", "paho")
BEGIN, END = "<!-- results: made by tools/bench/compare --report -->", "<!-- end of results -->"
NOISY = 0.2  # of one core used by others: the row was not taken on a quiet machine

GOAL_CLIENTS = 5000
GOAL_STREAM_PER_S = 50_000


def percentile_us(delays, share):
    """Of [[bucket, count], ...] as in peers/peer.h; the upper end of the bucket."""
    left = share * sum(count for _, count in delays)
    for bucket, count in sorted(delays):
        left -= count
        if left <= 0:
            exponent = bucket // 32 + 4
            return bucket if bucket < 32 else (32 + bucket % 32 + 1) << (exponent - 5)
    return None


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def number(value, digits=3):
    """About three figures."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    return f"{value:.{max(digits - len(str(int(abs(value)))), 0)}f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


CELL = ("part", "peer", "clients", "rate", "size", "qos")


def is_quiet(row):
    return row.get("others_share", 0) <= NOISY


def without_noise(rows):
    """Rows that were taken while others used the machine are left out of a cell that has others."""
    def cell(row):
        return tuple(row.get(name) for name in CELL)

    has_quiet = {cell(row) for row in rows if is_quiet(row)}
    return [row for row in rows if is_quiet(row) or cell(row) not in has_quiet]


class Data:
    def __init__(self, rows):
        self.taken = [row for row in rows if row["part"] != "about"]
        self.rows = without_noise(self.taken)
        self.abouts = [row for row in rows if row["part"] == "about"]

    def select(self, **wanted):
        return [row for row in self.rows
                if all(row.get(name) == value for name, value in wanted.items())]

    def values(self, name, **wanted):
        """The existing values of a column, in order."""
        return sorted({row[name] for row in self.select(**wanted) if row.get(name) is not None})

    def peers(self, **wanted):
        there = {row["peer"] for row in self.select(**wanted)}
        return [peer for peer in NAMES if peer in there]

    def median(self, column, **wanted):
        return median([row.get(column) for row in self.select(**wanted)])

    def saturated(self, **wanted):
        return any(row["saturated"] for row in self.select(**wanted))

    def ratio(self, peer, column="cpu_us", to="floor", **wanted):
        """Median over the rounds of peer / other."""
        bases = {row["round"]: row[column] for row in self.select(peer=to, **wanted)}
        return median([row[column] / bases[row["round"]] for row in self.select(peer=peer, **wanted)
                       if row.get(column) and bases.get(row["round"])])


def size_name(size):
    return f"{size // 1024} KB" if size >= 1024 else f"{size} B"


# ---- tables -------------------------------------------------------------------------------------

def cpu_tables(data):
    for clients in data.values("clients", part="cells"):
        chosen = {"part": "cells", "clients": clients}
        cells = [(rate, size, qos) for rate in data.values("rate", **chosen)
                 for size in data.values("size", rate=rate, **chosen)
                 for qos in data.values("qos", rate=rate, **chosen)]
        if not cells:
            continue
        rows = []
        for peer in data.peers(**chosen):
            row = [NAMES[peer]]
            for rate, size, qos in cells:
                cell = {**chosen, "rate": rate, "size": size, "qos": qos}
                text = number(data.median("cpu_us", peer=peer, **cell))
                ratio = data.ratio(peer, **cell)
                if peer != "floor" and ratio:
                    text += f" ({ratio:.1f})"
                row.append(text + (" **s**" if data.saturated(peer=peer, **cell) else ""))
            rows.append(row)
        head = [f"{clients:,} clients"] + [
            f"{rate:,}/s {size_name(size)} QoS {qos}" for rate, size, qos in cells]
        yield table(head, rows)


def delay_tables(data):
    """mqfleetd's from the part `delay`, the others' from `cells`."""
    for clients in data.values("clients"):
        chosen = {"clients": clients, "size": 128}
        cells = sorted({(row["rate"], row["qos"]) for row in data.select(**chosen)
                        if row["p50_us"] is not None})
        rows = []
        for peer in data.peers(clients=clients):
            part = "delay" if peer in NODES else "cells"
            row = [NAMES[peer]]
            for rate, qos in cells:
                cell = {"part": part, "peer": peer, "rate": rate, "qos": qos, **chosen}
                p50, p99 = data.median("p50_us", **cell), data.median("p99_us", **cell)
                row.append("-" if p50 is None else f"{number(p50 / 1000)} / {number(p99 / 1000)}")
            rows.append(row)
        if cells:
            yield table([f"{clients:,} clients"] + [f"{rate:,}/s QoS {qos}" for rate, qos in cells],
                        rows)


def connection_table(data, part):
    counts = data.values("clients", part=part)
    chosen = {"part": part, "rate": None}
    head = ["", *(f"KB per client, {count:,}" for count in counts),
            *(f"idle CPU, {count:,}" for count in counts),
            *(f"online after, {count:,}" for count in counts)]
    rows = []
    for peer in data.peers(**chosen):
        def column(name, scale=1, unit="", peer=peer):
            for count in counts:
                value = data.median(name, peer=peer, clients=count, **chosen)
                yield "-" if value is None else number(max(value, 0) * scale) + unit
        rows.append([NAMES[peer], *column("pss_kb_per_client"),
                     *column("idle_cpu_share", 100, " %"), *column("online_s", 1, " s")])
    return table(head, rows) if rows else ""


def best_stream(data, peer, clients):
    """The highest rate that was received in time."""
    rows = [row for row in data.select(part="stream", peer=peer, clients=clients)
            if not row["saturated"]]
    rate = max((row["rate"] for row in rows), default=None)
    return [row for row in rows if row["rate"] == rate]


def stream_table(data):
    rows = []
    for peer in data.peers(part="stream"):
        for clients in data.values("clients", part="stream", peer=peer):
            best = best_stream(data, peer, clients)
            if not best:
                continue
            threads = collections.defaultdict(list)
            for row in best:
                for name, spent in row["threads_cpu_s"].items():
                    threads[name].append(1e6 * spent / row["received"])
            shares = sorted(((median(spent), name) for name, spent in threads.items()),
                            reverse=True)
            rows.append([
                NAMES[peer], f"{clients:,}", number(median([row["sent"] / (row["load_ms"] / 1000)
                                                           for row in best])),
                number(median([1e6 / row["cpu_us"] for row in best])),
                ", ".join(f"{name} {number(spent)}" for spent, name in shares[:4] if spent > 0.05),
                number(median([1e6 * row["redis_cpu_s"] / row["received"] for row in best])),
                number(median([1e6 * row["broker_cpu_s"] / row["received"] for row in best]))])
    head = ["", "clients", "highest rate received in time, per s",
            "messages per CPU second of the node", "of that, us per message by thread",
            "Redis, us", "broker, us"]
    return table(head, rows) if rows else ""


# ---- goals --------------------------------------------------------------------------------------

def verdict(value, limit, least=False):
    if value is None:
        return "not measured"
    return "met" if (value >= limit if least else value <= limit) else "**missed**"


def spread_cell(data):
    """5,000 clients, the rate nearest to 5,000/s, small, QoS 0 and 1."""
    rates = data.values("rate", part="cells", clients=GOAL_CLIENTS)
    rate = min(rates, key=lambda one: abs(one - 5000), default=None)
    return {"part": "cells", "clients": GOAL_CLIENTS, "rate": rate, "size": 128}


def goal_rows(data):
    cell = spread_cell(data)
    for qos in data.values("qos", **cell):
        for other, limit in (("floor", 1.5), ("mqtt.js", 1 / 3), ("paho-go", 1 / 5),
                             ("paho", 1 / 10)):
            ratio = data.ratio("reactor", to=other, qos=qos, **cell)
            yield [f"CPU per message, {GOAL_CLIENTS:,} clients, {cell['rate']:,}/s, QoS {qos}, "
                   f"to {NAMES[other]}", f"at most {number(limit)}", number(ratio),
                   verdict(ratio, limit)]
    for part, limit in (("cells", 2), ("tls", 16)):
        kb = data.median("pss_kb_per_client", part=part, clients=GOAL_CLIENTS, peer="reactor",
                         rate=None)
        yield [f"memory per idle client, {'TLS' if part == 'tls' else 'plain'}",
               f"at most {limit} KB", number(kb), verdict(kb, limit)]
    online_s = data.median("online_s", part="cells", clients=10000, peer="reactor", rate=None)
    yield ["10,000 clients from waiting to online", "at most 3 s", number(online_s),
           verdict(online_s, 3)]
    per_s = median([1e6 / row["cpu_us"] for clients in data.values("clients", part="stream")
                    for row in best_stream(data, "reactor", clients)])
    yield ["QoS 1 into Redis Streams, per CPU second of the node", f"{GOAL_STREAM_PER_S:,}",
           number(per_s), verdict(per_s, GOAL_STREAM_PER_S, least=True)]


def shown_command(about):
    """Without where the results were kept."""
    words = about.get("command", [])
    kept = [word for at, word in enumerate(words)
            if word != "--json" and (at == 0 or words[at - 1] != "--json")]
    return " ".join(["tools/bench/compare", *kept])


def conditions(data):
    quiet = median([row["others_share"] for row in data.taken if "others_share" in row])
    noisy = len(data.taken) - len(data.rows)
    last = data.abouts[-1] if data.abouts else {}
    commands = dict.fromkeys(shown_command(about) for about in data.abouts)
    return (f"Taken {last.get('at', '')[:10]} at commit {data.abouts[0].get('commit', '?')}, "
            f"{last.get('cores')} cores, Linux {last.get('kernel')}, with "
            f"{', '.join(f'`{command}`' for command in commands)}. Other programs used "
            f"{100 * (quiet or 0):.0f} % of a core meanwhile (median); {noisy} of {len(data.taken)} "
            f"rows, taken while they used more than {100 * NOISY:.0f} %, are left out.\n")


def tables(rows):
    data = Data(rows)
    if not data.rows:
        return "nothing measured yet\n"
    parts = [conditions(data)]

    def section(title, text, *bodies):
        if any(bodies):
            parts.extend([f"### {title}\n", text + "\n", *filter(None, bodies)])

    if data.peers(peer="reactor"):
        section("Goals", "A ratio is the median of the ratios of all rounds.",
                table(["", "goal", "measured", ""], goal_rows(data)))
    section("CPU per received message",
            "User and system time of the peer's process in microseconds; in brackets the ratio to "
            "the floor. **s**: saturated, the peer received less than 98 % in time.",
            *cpu_tables(data))
    section("Delay", "p50 / p99 in ms, 128 bytes, from the time stamp to the peer's callback; "
            "for mqfleetd to the line in the sink's file (see above).", *delay_tables(data))
    section("A connection", "Memory: proportional set size with all clients minus that with none, "
            "per client, after 12 idle seconds. CPU: that of the idle process as a share of one "
            "core, keepalive 60 s. Online: from the start of connecting (mqfleetd: from the POST) "
            "until the broker has the last subscription.", connection_table(data, "cells"))
    section("A connection with TLS", "As in the previous table.", connection_table(data, "tls"))
    section("QoS 1 into Redis Streams", "128 bytes; a message is acknowledged to the broker after "
            "Redis has stored it.", stream_table(data))
    return "\n".join(parts)


# ---- the plot -----------------------------------------------------------------------------------

WIDTH, ROW, LABEL, VALUE = 760, 22, 130, 90
COLOURS = {"floor": "#8a8f98", "libmosquitto": "#8a8f98", "mqtt.js": "#8a8f98",
           "paho-go": "#8a8f98", "paho": "#7aa6d9", "reactor": "#2563c9"}


def panel(title, bars, top):
    """bars: (peer, value, text). Lengths are linear, truncated at three times the second largest."""
    values = sorted(value for _, value, _ in bars)
    end = max(min(values[-1], 3 * values[-2]) if len(values) > 1 else values[-1], 1e-9)
    yield f'<text x="0" y="{top + 14}" class="t">{title}</text>'
    for index, (peer, value, text) in enumerate(bars):
        y = top + 26 + index * ROW
        length = max((WIDTH - LABEL - VALUE) * min(value, end) / end, 1)
        cut = " (bar cut short)" if value > end else ""
        yield f'<text x="{LABEL - 8}" y="{y + 13}" class="l">{NAMES[peer]}</text>'
        yield (f'<rect x="{LABEL}" y="{y + 2}" width="{length:.1f}" height="{ROW - 6}" rx="2" '
               f'fill="{COLOURS[peer]}"/>')
        at, anchor = (LABEL + length - 6, ' style="text-anchor:end;fill:#fff"') if cut else \
            (LABEL + length + 6, "")
        yield f'<text x="{at:.1f}" y="{y + 13}"{anchor}>{text}{cut}</text>'


def plot(rows):
    data, out, top = Data(rows), [], 0
    cell = spread_cell(data)

    def add(title, column, unit, **wanted):
        nonlocal top
        found = [(peer, data.median(column, peer=peer, **wanted)) for peer in data.peers(**wanted)]
        bars = [(peer, value, f"{number(max(value, 0))} {unit}") for peer, value in found
                if value is not None]
        if bars:
            out.extend(panel(title, bars, top))
            top += 26 + len(bars) * ROW + 20

    for qos in data.values("qos", **cell):
        add(f"CPU per received message: {GOAL_CLIENTS:,} clients, {cell['rate']:,} messages/s, "
            f"128 bytes, QoS {qos}", "cpu_us", "us", qos=qos, **cell)
    connected = {"clients": GOAL_CLIENTS, "rate": None}
    add(f"Memory per idle client, {GOAL_CLIENTS:,} clients", "pss_kb_per_client", "KB",
        part="cells", **connected)
    add(f"Memory per idle client with TLS, {GOAL_CLIENTS:,} clients", "pss_kb_per_client", "KB",
        part="tls", **connected)
    style = ("text{font:13px system-ui,sans-serif;fill:#57606a}.t{font-weight:600}"
             ".l{text-anchor:end}@media(prefers-color-scheme:dark){text{fill:#adbac7}}")
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}">'
            f"<style>{style}</style>\n" + "\n".join(out) + "\n</svg>\n")


def write(rows, folder):
    """Between the markers of benchmarks.md, and benchmarks.svg beside it."""
    page = folder / "benchmarks.md"
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert END in text, f"{page} has no markers"
    (folder / "benchmarks.svg").write_text(plot(rows))
    page.write_text(f"{before}{BEGIN}\n\n![CPU and memory]({'benchmarks.svg'})\n\n{tables(rows)}\n"
                    f"{END}{after}")
