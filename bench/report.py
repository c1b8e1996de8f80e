#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes of bench/results/gpu-*.json, as gpu.py writes it, the tables on GPUs in README.md, and plots beside the JSON.

usage: bench/report.py            rewrites what stands between the markers in README.md, and draws gpu-*.png
       bench/report.py --check    only says whether README.md is what this makes of the JSON; exit status 1 if not

Others that were not measured in the same run come from peers-GPU-tpN.csv, whose first lines say where it is from; they
are marked wherever they are shown. Drawing needs matplotlib.
"""

import argparse
import csv
import difflib
import json
import pathlib
import re
import sys

from host_report import human

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "bench/results"
BEGIN = "<!-- What follows is made by `make report` from bench/results/: do not edit it. -->\n"
END = "<!-- End of what `make report` makes. -->\n"

# Bytes a microsecond out of each GPU while all send at once, by their number.
BANDWIDTH = {2: 353e3, 3: 350e3, 4: 347e3}
GUESSED = {3}  # was not measured: it lies between the others
NARROW = 1.05  # a lead that another day may undo
BLOCKS_FROM = 512 << 10  # bytes

# Who is compared, as the tables call them, and the colours of the plots. Others are shown by their own names.
PEERS = {
    "nccl": ("NCCL", "tab:green"),
    "nccl_window": ("NCCL, window", "tab:olive"),
    "torch_nccl": ("PyTorch NCCL", "tab:gray"),
    "torch_symm_one_shot": ("PyTorch one-shot", "tab:brown"),
    "torch_symm_two_shot": ("PyTorch two-shot", "tab:pink"),
    "vllm_v1": ("vLLM", "tab:cyan"),
    "flashinfer_trtllm": ("FlashInfer", "tab:purple"),
    "sglang_v2": ("SGLang v2", "tab:orange"),
}


def limit_us(nranks, nbytes):
    """What the wire allows: a signal, and the bytes; for one-shot or two-shot, whichever is less. None: not known."""
    if nranks not in BANDWIDTH:
        return None
    each = nbytes * (nranks - 1) / BANDWIDTH[nranks]
    return min(1.46 + each, 2.16 + 2 * each / nranks)


def gpu_of(device):
    """As the names of files have it."""
    return re.sub(r"[^a-z0-9]+", "-", device.removeprefix("NVIDIA ").lower())


def read_separate(device, nranks, folder=RESULTS):
    """Microseconds by peer and bytes, of what was measured separately: bf16 sums in graphs, without a neighbour."""
    path = folder / f"peers-{gpu_of(device)}-tp{nranks}.csv"
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    names = [name for name in rows[0] if name != "size_kib"]
    return {name: {int(row["size_kib"]) << 10: float(row[name]) for row in rows if row[name]} for name in names}


def is_plain(found):
    """Whether a run is of the usual launches, sizes and buffers, which the others are measured with."""
    return not (found["results"][0]["registered"] or found.get("max_blocks", 0) or found.get("extra_bytes", 0))


class Run:
    """One run of gpu.py: what Onehop took by bytes, and whom it is compared with."""

    def __init__(self, found, separate):
        self.found = found
        self.nranks = found["nranks"]
        self.dtype = found["results"][0]["dtype"]
        self.graphs = found["mode"] == "graph"
        self.neighbour = found["neighbour_bytes"] > 0
        self.registered = found["results"][0]["registered"]
        self.max_blocks = found.get("max_blocks", 0)  # 0: no bound
        self.extra_bytes = found.get("extra_bytes", 0)  # on top of the sizes that it stands for
        self.plain = is_plain(found)
        self.rows = {in_place: {row["bytes"] - self.extra_bytes: row for row in found["results"]
                                if row["in_place"] == in_place}
                     for in_place in (False, True)}
        self.sizes = sorted(self.rows[False])
        measured = {name for row in found["results"] for name in row["peers"]}
        alike = self.graphs and not self.neighbour and self.dtype == "bfloat16" and self.plain
        self.separate = {name: times for name, times in separate.items() if alike and name not in measured}
        self.peers = sorted(measured | set(self.separate), key=[*PEERS, *measured, *separate].index)

    def label(self, peer):
        return PEERS.get(peer, (peer,))[0] + (" *" if peer in self.separate else "")

    def time(self, nbytes, in_place=False):
        return self.rows[in_place][nbytes]["time_us"]

    def peer_time(self, peer, nbytes, in_place=False):
        """None where it was not measured. What was measured separately is taken for both places."""
        if peer in self.separate:
            return self.separate[peer].get(nbytes)
        return self.rows[in_place][nbytes]["peers"].get(peer)

    def leads(self, nbytes, in_place=False):
        """By peer, how many times as long as Onehop it takes."""
        times = {peer: self.peer_time(peer, nbytes, in_place) for peer in self.peers}
        return {peer: us / self.time(nbytes, in_place) for peer, us in times.items() if us is not None}

    def lead(self, nbytes, in_place=False):
        """That over the fastest of them; None where there is nobody."""
        return min(self.leads(nbytes, in_place).values(), default=None)


def read_runs(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    separate = read_separate(found["device"], found["nranks"], path.parent)
    return [Run(one, separate) for one in found["runs"]]


# ---- the text ----


def us(value):
    return "" if value is None else f"{value:.2f}" if value < 100 else f"{value:.1f}"


def times(value):
    return "" if value is None else f"{value:.2f}x"


def table(columns, sizes):
    """`columns`: heading, and what stands there for a number of bytes."""
    lines = [[heading for heading, _ in columns], ["---"] * len(columns)]
    lines += [[cell(nbytes) for _, cell in columns] for nbytes in sizes]
    return [f"| {' | '.join(line)} |" for line in lines]


def peer_columns(run):
    return [(run.label(peer), lambda nbytes, peer=peer: us(run.peer_time(peer, nbytes))) for peer in run.peers]


def table_alone(run):
    columns = [("bytes", human), *peer_columns(run), ("Onehop", lambda nbytes: us(run.time(nbytes)))]
    if limit_us(run.nranks, 0) is not None:
        columns += [("limit", lambda nbytes: us(limit_us(run.nranks, nbytes))),
                    ("times the limit", lambda nbytes: times(run.time(nbytes) / limit_us(run.nranks, nbytes)))]
    columns += [("faster than the best other", lambda nbytes: times(run.lead(nbytes)))]
    return table(columns, run.sizes)


def table_rest(run, others):
    """What belongs to the same sizes: in place, the algorithm, and other runs, by heading, where they were made."""
    columns = [("bytes", human), ("algorithm", lambda nbytes: run.rows[False][nbytes]["algorithm"]),
               ("in place", lambda nbytes: us(run.time(nbytes, in_place=True)))]
    columns += [(heading, lambda nbytes, other=other: us(other.time(nbytes)))
                for heading, other in others.items() if other is not None]
    return table(columns, run.sizes)


def table_neighbour(run, calls):
    """The same beside a neighbour."""
    columns = [("bytes", human), *peer_columns(run), ("Onehop", lambda nbytes: us(run.time(nbytes))),
               ("in place", lambda nbytes: us(run.time(nbytes, in_place=True)))]
    if calls:
        columns += [("call by call", lambda nbytes: us(calls.time(nbytes)))]
    return table([*columns, ("faster than the best other", lambda nbytes: times(run.lead(nbytes)))], run.sizes)


def table_blocks(run, bounded):
    """Onehop with fewer blocks, from the size on from which that is asked for."""
    columns = [("bytes", human), *((f"{each.max_blocks} blocks", lambda nbytes, each=each: us(each.time(nbytes)))
                                   for each in bounded), ("no bound", lambda nbytes: us(run.time(nbytes)))]
    return table(columns, [nbytes for nbytes in run.sizes if nbytes >= BLOCKS_FROM])


def compare(runs, wanted):
    """All peers and sizes, in every run and place, whose lead of Onehop is wanted: one line for each peer and place."""
    lines = []
    for run in runs:
        for in_place in (False, True):
            for peer in run.peers:
                leads = {nbytes: run.leads(nbytes, in_place).get(peer) for nbytes in run.sizes}
                found = [f"{human(nbytes)} ({times(lead)})" for nbytes, lead in leads.items()
                         if lead is not None and wanted(lead)]
                if found:
                    place = "in place" if in_place else "out of place"
                    lines.append(f"- {run.label(peer)}, {run.found['name']}, {place}: {', '.join(found)}")
    return lines


def where_we_lose(runs):
    compared = [run for run in runs if run.peers]
    if not compared:
        return ["Nobody else was measured."]
    names = "; ".join(run.found["name"] for run in compared)
    slower = compare(compared, lambda lead: lead < 1)
    close = compare(compared, lambda lead: 1 <= lead < NARROW)
    marked = " (those with * in one of them alone)" if any(run.separate for run in compared) else ""
    lines = [f"Compared in and out of place in these runs{marked}: {names}."]
    lines[0] += " Faster than Onehop there:" if slower else " Nobody was faster than Onehop there."
    lines += ["", *slower] if slower else []
    lines += ["", f"Less than {100 * (NARROW - 1):.0f} % slower than Onehop:", "", *close] if close else []
    return lines


def pick(runs, **wanted):
    return next((run for run in runs if all(getattr(run, name) == value for name, value in wanted.items())), None)


def section(path):
    """All that is said of one file."""
    runs = read_runs(path)
    bf16 = [run for run in runs if run.dtype == "bfloat16"]
    alone = pick(bf16, graphs=True, neighbour=False, plain=True)
    if alone is None:
        sys.exit(f"bench/report.py: {path} has no run of bfloat16 in graphs")
    about = alone.found
    commit = re.sub(r"^(.{12})[0-9a-f]*", r"\1", about["commit"])
    others = f"; NCCL {about['nccl_version']}" if about["nccl_version"] else ""
    others += f"; PyTorch {about['torch_version']}" if about.get("torch_version") else ""
    turns = f", and of {about['turns']} turns" if about.get("turns", 1) > 1 else ""
    lines = [f"**{about['nranks']} x {about['device']}**: {about['driver']}{others}; commit {commit}, "
             f"{about['date'][:10]}; median of {about['rounds']} rounds{turns}.", "",
             f"![Times, and how far from the limit](bench/results/{path.stem}.png)", "",
             *table_alone(alone), ""]
    if alone.nranks in GUESSED:
        lines += [f"The rate in the limit was not measured for {alone.nranks} GPUs; it lies between those for fewer "
                  "and for more.", ""]
    lines += [*table_rest(alone, {
        "registered": pick(bf16, registered=True),
        "one element more": pick(bf16, extra_bytes=2),
        "call by call": pick(bf16, graphs=False, neighbour=False),
        "float16": pick(runs, dtype="float16", graphs=True, neighbour=False),
        "float32": pick(runs, dtype="float32", graphs=True, neighbour=False),
    }), ""]
    neighbour = pick(bf16, graphs=True, neighbour=True)
    if neighbour:
        lines += ["With a neighbour:", "",
                  *table_neighbour(neighbour, pick(bf16, graphs=False, neighbour=True)), ""]
    bounded = [run for run in runs if run.max_blocks > 0]
    if bounded:
        lines += ["With a bound on the blocks of a kernel (`max_blocks`), out of place:", "",
                  *table_blocks(alone, bounded), ""]
    return [*lines, *where_we_lose(runs), ""]


def report(folder=RESULTS):
    """All between the markers; more GPUs come first."""
    paths = sorted(folder.glob("gpu-*.json"), key=lambda path: -json.loads(path.read_text(encoding="utf-8"))["nranks"])
    return "\n".join(["", *(line for path in paths for line in section(path))]) + "\n", paths


def rewrite(text, made):
    """The text of README.md with this between the markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"bench/report.py: README.md lacks the line {(BEGIN if not begin else END).strip()}")
    return before + begin + made + end + after


# ---- the plots ----


def label_axis(axis, ticks, text):
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_formatter(NullFormatter())
    if ticks:
        axis.set_ticks(ticks)


def draw_panel(panel, run, value, ticks, label):
    """`value(nbytes, us)` is what is drawn of a time."""
    for peer in run.peers:
        known = [(nbytes, run.peer_time(peer, nbytes)) for nbytes in run.sizes]
        points = [(nbytes, value(nbytes, time)) for nbytes, time in known if time is not None]
        panel.plot(*zip(*points), marker=".", color=PEERS.get(peer, (peer, None))[1],
                   linestyle="--" if peer in run.separate else "-",
                   label=run.label(peer).replace(" *", " (measured separately)"))
    for in_place, style in ((False, "-"), (True, ":")):
        panel.plot(run.sizes, [value(nbytes, run.time(nbytes, in_place)) for nbytes in run.sizes], marker=".",
                   color="tab:blue", linestyle=style, label="Onehop, in place" if in_place else "Onehop")
    limits = [(nbytes, limit_us(run.nranks, nbytes)) for nbytes in run.sizes]
    if limits[0][1] is not None:
        panel.plot(run.sizes, [value(*limit) for limit in limits], color="black", linewidth=1, label="limit")
    panel.set_xscale("log", base=2)
    panel.set(yscale="log", xlabel="bytes", ylabel=label, title=run.found["name"])
    label_axis(panel.xaxis, None, lambda nbytes: human(int(nbytes)))
    label_axis(panel.yaxis, ticks, lambda number: f"{number:g}")
    panel.grid(True, alpha=0.3)


def draw(path):
    """A row for each run of bf16 in graphs: times, and, where the limit is known, what multiples of it they are."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    runs = [run for run in read_runs(path) if run.graphs and run.dtype == "bfloat16" and run.plain]
    about = runs[0].found
    known = limit_us(about["nranks"], 0) is not None
    figure, axes = pyplot.subplots(len(runs), 1 + known, figsize=(7 * (1 + known), 5 * len(runs)), squeeze=False,
                                   layout="constrained")
    for run, panels in zip(runs, axes):
        draw_panel(panels[0], run, lambda _, time: time, [2, 5, 10, 20, 50, 100, 200], "microseconds")
        panels[0].legend(fontsize="small")
        if known:
            draw_panel(panels[1], run, lambda nbytes, time: time / limit_us(about["nranks"], nbytes),
                       [1, 1.5, 2, 3, 5, 8], "time / limit")
    figure.suptitle(f"{about['nranks']} x {about['device']}, {about['date'][:10]}")
    figure.savefig(path.with_suffix(".png"), dpi=80)
    pyplot.close(figure)
    print(f"drawn: {path.with_suffix('.png').relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    made, paths = report()
    is_text = README.read_text(encoding="utf-8")
    should = rewrite(is_text, made)
    if options.check:
        sys.stdout.writelines(difflib.unified_diff(is_text.splitlines(True), should.splitlines(True), "README.md",
                                                   "what `make report` makes of bench/results/"))
        sys.exit(is_text != should)
    README.write_text(should, encoding="utf-8")
    for path in paths:
        draw(path)


if __name__ == "__main__":
    main()
