# SPDX-License-Identifier: Apache-2.0
"""What host.py measured, as a table with goals, a JSON file (schema onehop-bench-1) and a plot.

A *sample* is one system's measurement at one size in one round, with the ping-pongs just before and after it. A ratio
is taken within a round, between samples of the same placement, and the median of rounds is reported.
"""

import json
import os
from collections import Counter
from statistics import median, mode

PEERS = ("openmpi", "mpich")
ONEHOP = ("onehop", "onehop_registered", "onehop_bf16")
SYSTEMS = PEERS + ONEHOP
PLACEMENTS = ("near", "far", "sibling")
KIB, MIB = 1 << 10, 1 << 20
AT_MOST = {"bf16": 1.2, "p99": 3.0}


def placement(before_ns, after_ns):
    """Where the two processors were while a system ran, from the one-way signal; "moved" if that changed meanwhile."""

    def kind(signal_ns):
        if signal_ns <= 35:
            return "sibling"  # two threads of one core
        return "near" if signal_ns <= 100 else "far"

    return kind(before_ns) if kind(before_ns) == kind(after_ns) else "moved"


def goal(what, nranks, place, nbytes):
    """The least ratio (for bf16 and p99: the greatest) that Onehop has promised itself; None where it has not."""
    if place == "sibling":
        return None
    if what in AT_MOST:
        return AT_MOST[what]
    if what == "ratio" and nranks > os.cpu_count():
        return 1.0 if nbytes <= 2 * KIB else 2.0
    if nranks != 2:
        return None
    if what == "registered":
        return None if nbytes < 32 * KIB else 1.5 if nbytes <= 2 * MIB else 1.3
    if place == "far":
        return 1.2 if nbytes <= 2 * KIB else 2.0
    if nbytes <= 512:
        return 1.5
    return 1.8 if nbytes <= 2 * KIB else 2.8 if nbytes <= 2 * MIB else 2.5


class Judged:
    """A ratio with its goal; `rounds` says of how many rounds it is the median."""

    def __init__(self, what, ratios, limit):
        self.value = median(ratios) if ratios else None
        self.rounds = len(ratios)
        self.limit = limit
        self.at_most = what in AT_MOST
        if limit is None or self.value is None:
            self.met = None
        else:
            self.met = self.value <= limit if self.at_most else self.value >= limit

    def __str__(self):
        if self.value is None:
            return ""
        text = f"{self.value:.2f}"
        if self.limit is None:
            return text
        return text + ("" if self.at_most else f" >={self.limit:.1f}") + (" ok" if self.met else " NO")

    def plain(self):
        return {"value": rounded(self.value), "goal": self.limit, "met": self.met, "rounds": self.rounds}


class Row:
    """All that is known of one size in one placement."""

    def __init__(self, nranks, place, nbytes, samples):
        self.bytes = nbytes
        self.placement = place
        self.samples = {name: [sample for sample in samples if sample["system"] == name] for name in SYSTEMS}
        self.rounds = {name: {sample["round"]: sample["time_us"] for sample in self.samples[name]} for name in SYSTEMS}
        self.time = {name: median(times.values()) for name, times in self.rounds.items() if times}
        self.judged = {
            "ratio": self.ratios("onehop", PEERS),
            "registered": self.ratios("onehop_registered", ("onehop",)),
            "bf16": [1 / ratio for ratio in self.ratios("onehop_bf16", ("onehop",))],
        }
        for name in ONEHOP:
            self.judged[f"p99 {name}"] = [sample["time_p99_us"] / sample["time_us"] for sample in self.samples[name]]
        for what, ratios in self.judged.items():
            kind = what.split()[0]
            self.judged[what] = Judged(kind, ratios, goal(kind, nranks, place, nbytes))

    def ratios(self, system, others):
        """The fastest of `others` over `system`, in each round that has them all."""
        rounds = set(self.rounds[system]).intersection(*(self.rounds[other] for other in others))
        return [min(self.rounds[other][r] for other in others) / self.rounds[system][r] for r in sorted(rounds)]


def human(nbytes):
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if nbytes >= unit and nbytes % unit == 0:
            return f"{nbytes // unit} {name}"
    return f"{nbytes} B"


def rounded(value):
    return None if value is None else float(f"{value:.4g}")


def rows_by_placement(nranks, samples):
    tables = {}
    for place in PLACEMENTS:
        here = [sample for sample in samples if sample["placement"] == place]
        if here:
            seen = sorted({sample["bytes"] for sample in here})
            tables[place] = [Row(nranks, place, nbytes, [s for s in here if s["bytes"] == nbytes]) for nbytes in seen]
    return tables


HEADS = {
    "ratio": "MPI/onehop",
    "registered": "gain of reg.",
    "bf16": f"bf16<={AT_MOST['bf16']}",
    "p99 onehop": f"p99<={AT_MOST['p99']:.0f}",
    "p99 onehop_registered": "p99 reg.",
    "p99 onehop_bf16": "p99 bf16",
}


def print_columns(lines):
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))


def print_table(about, nranks, place, rows, samples):
    signals = [sample["before_ns"] for sample in samples if sample["placement"] == place]
    print(f"\n{nranks} ranks on {about['cpus']} processors, {place} (one-way signal {median(signals):.0f} ns): "
          f"{len(signals)} of {len(samples)} samples. float32 sum, time in us, median of rounds")
    heads = ["bytes", *(name.removeprefix("onehop_") for name in SYSTEMS), *HEADS.values(), "rounds"]
    lines = [heads]
    for row in rows:
        times = [f"{row.time[name]:.4g}" if name in row.time else "" for name in SYSTEMS]
        lines.append([human(row.bytes), *times, *(str(row.judged[what]) for what in HEADS),
                      str(row.judged["ratio"].rounds)])
    print_columns(lines)


def print_goals(nranks, tables):
    for place, rows in tables.items():
        verdicts = [(what, row) for what in HEADS for row in rows if row.judged[what].met is not None]
        missed = [f"{HEADS[what].split('<')[0]} {row.judged[what].value:.2f} at {human(row.bytes)}, "
                  f"goal {row.judged[what].limit}, {row.judged[what].rounds} rounds"
                  for what, row in verdicts if not row.judged[what].met]
        print(f"{nranks} ranks, {place}: {len(verdicts) - len(missed)} of {len(verdicts)} goals met"
              + "".join(f"\n    missed: {text}" for text in missed))


def result_of(nranks, row, system):
    """One element of `results`; beyond the schema: placement, rounds, and the goals."""
    samples = row.samples[system]
    dtype = "bfloat16" if system == "onehop_bf16" else "float32"
    algbw = row.bytes / row.time[system] / 1e3
    judged = {what: verdict.plain() for what, verdict in row.judged.items()
              if what == f"p99 {system}" or {"ratio": "onehop"}.get(what, f"onehop_{what}") == system}
    return {
        "bytes": row.bytes,
        "count": row.bytes // (2 if dtype == "bfloat16" else 4),
        "dtype": dtype,
        "op": "sum",
        "in_place": False,
        "registered": system == "onehop_registered",
        "algorithm": mode(sample["algorithm"] for sample in samples),
        "blocks": 0,
        "threads": 0,
        "time_us": rounded(row.time[system]),
        "time_p99_us": rounded(median(sample["time_p99_us"] for sample in samples)),
        "algbw_gbs": rounded(algbw),
        "busbw_gbs": rounded(algbw * 2 * (nranks - 1) / nranks),
        "wrong": sum(sample["wrong"] for sample in samples),
        "peers": {name: rounded(row.time[name]) for name in PEERS if name in row.time and dtype == "float32"},
        "placement": row.placement,
        "rounds": len(samples),
        "judged": judged,
    }


def write_json(about, nranks, tables, samples, path):
    """One object; a result or a sample a line, so that two files can be compared."""
    results = [result_of(nranks, row, system) for rows in tables.values() for row in rows for system in ONEHOP
               if row.samples[system]]
    columns = list(samples[0])
    head = {**about, "nranks": nranks, "placements": Counter(sample["placement"] for sample in samples)}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    lines.append(listing("results", map(json.dumps, results)))
    lines.append(f'"sample_columns": {json.dumps(columns)}')
    lines.append(listing("samples", (json.dumps([sample[column] for column in columns]) for sample in samples)))
    path.write_text("{\n  " + ",\n  ".join(lines) + "\n}\n", encoding="utf-8")


def listing(key, items):
    return f'"{key}": [\n    ' + ",\n    ".join(items) + "\n  ]"


def draw(panel, points, style):
    if points:
        panel.plot(*zip(*points), **style)


def plot(about, nranks, tables, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    styles = {"openmpi": ("OpenMPI", "tab:orange", "-"), "mpich": ("MPICH", "tab:red", "-"),
              "onehop": ("Onehop", "tab:blue", "-"), "onehop_registered": ("Onehop, registered", "tab:green", "-"),
              "onehop_bf16": ("Onehop, bf16", "tab:blue", ":")}
    figure, axes = pyplot.subplots(len(tables), 2, figsize=(12, 4.5 * len(tables)), squeeze=False)
    for (place, rows), (times, ratios) in zip(tables.items(), axes):
        for name, (label, colour, line) in styles.items():
            style = {"linestyle": line, "color": colour, "marker": ".", "label": label}
            draw(times, [(row.bytes, row.time[name]) for row in rows if name in row.time], style)
            if name in ("onehop", "onehop_registered"):
                found = [(row.bytes, row.ratios(name, PEERS)) for row in rows]
                draw(ratios, [(nbytes, median(several)) for nbytes, several in found if several], style)
        goals = [(row.bytes, row.judged["ratio"].limit) for row in rows if row.judged["ratio"].limit]
        draw(ratios, goals, {"linestyle": "--", "color": "grey", "drawstyle": "steps-mid", "label": "goal"})
        times.set(yscale="log", ylabel="us", title=f"{nranks} ranks, {place}: time of a float32 sum")
        ratios.set(ylabel="ratio", ylim=(0, None), title=f"{nranks} ranks, {place}: fastest MPI / Onehop")
        for panel in (times, ratios):
            panel.set_xscale("log", base=2)
            panel.set(xlabel="bytes", xlim=(rows[0].bytes / 1.5, rows[-1].bytes * 1.5))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human(int(value))))
            panel.grid(alpha=0.3)
            if panel.has_data():
                panel.legend()
    figure.suptitle(f"{about['device']}, {about['cpus']} processors, {about['date'][:10]}")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def publish(about, nranks, samples, path):
    """Prints the tables, and writes path.json and path.png."""
    tables = rows_by_placement(nranks, samples)
    for place, rows in tables.items():
        print_table(about, nranks, place, rows, samples)
    moved = sum(sample["placement"] == "moved" for sample in samples)
    print(f"\n{moved} of {len(samples)} samples left out: the processors moved meanwhile")
    print_goals(nranks, tables)
    write_json(about, nranks, tables, samples, path.with_suffix(".json"))
    plot(about, nranks, tables, path.with_suffix(".png"))
    print(f"written: {path.with_suffix('.json')}, {path.with_suffix('.png')}")
