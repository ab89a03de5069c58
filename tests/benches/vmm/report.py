#!/usr/bin/env -S python3 -B
"""Tables out of results (JSON lines on standard input); with --write into VMM-RESULTS.md."""

import collections
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

RESULTS = pathlib.Path(__file__).resolve().parent.parent / "VMM-RESULTS.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PEERS = ("microvm", "q35", "q35, qboot", "q35, threads", "q35, vhost")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def by_monitor(records):
    groups = collections.defaultdict(list)
    for record in records:
        groups[record["monitor"]].append(record)
    return {name: groups[name] for name in ("posada", *PEERS) if name in groups}


def times(records, title):
    groups = by_monitor(records)
    medians = {name: statistics.median(record["seconds"] for record in group) for name, group in groups.items()}
    best = min(medians[name] for name in medians if name != "posada")
    counters = list(records[0].get("counters", {}))
    rows = []
    for name, group in groups.items():
        seconds = [record["seconds"] for record in group]
        counts = [f"{statistics.median(record['counters'][key] for record in group):,.0f}" for key in counters]
        rows.append([name, str(len(group)), number(medians[name]), number(min(seconds)), f"{medians[name] / best:.2f}", *counts])
    return [f"### {title}", "", *table(["", "rounds", "median s", "fastest s", "÷ best peer", *counters], rows), ""]


def rates(records, title):
    groups = by_monitor(records)
    keys = list(records[0]["results"])
    median = {name: {key: statistics.median(record["results"].get(key, 0) for record in group) for key in keys}
              for name, group in groups.items()}
    best = {key: max(median[name][key] for name in median if name != "posada") for key in keys}
    rows = [[name, str(len(groups[name])), *(number(values[key]) for key in keys)] for name, values in median.items()]
    if "posada" in median:
        rows.append(["**posada ÷ best peer**", "", *(f"**{median['posada'][key] / best[key]:.2f}**" for key in keys)])
    return [f"### {title}", "", *table(["", "rounds", *keys], rows), ""]


def idle(records):
    rows = []
    for name, group in by_monitor(records).items():
        middle = lambda pick: statistics.median(pick(record) for record in group)
        rows.append([name, str(len(group)), f"{middle(lambda r: r['memory']['resident']) / 1024:.1f}",
                     f"{middle(lambda r: r['memory']['private']) / 1024:.1f}",
                     *(f"{middle(lambda r: r['used'][kind]['switches'] / r['watched']):.1f}" for kind in ("vcpu", "others")),
                     *(f"{middle(lambda r: r['used'][kind]['cpu'] / r['watched']) * 1e3:.2f}" for kind in ("vcpu", "others"))])
    head = ["", "rounds", "resident MiB", "of it private", "vCPU wakes/s", "other threads' wakes/s", "vCPU ms/s", "others ms/s"]
    return ["### A sleeping guest", "", *table(head, rows), ""]


def main():
    parts = collections.defaultdict(list)
    for line in sys.stdin:
        record = json.loads(line)
        parts[record["part"], record.get("kind")].append(record)
    lines = []
    titles = {"start": "To the first line of init", "ssh": "To sshd's banner", "disk": "Disk", "net": "TCP by a tap, Mbit/s"}
    for (part, kind), records in sorted(parts.items(), key=lambda item: ["start", "ssh", "disk", "net", "idle"].index(item[0][0])):
        if part == "idle":
            lines += idle(records)
        elif part in ("start", "ssh"):
            lines += times(records, titles[part] + (f", kernel {kind}" if kind else ""))
        else:
            note = f", {kind}: KiB/s (1M) and operations a second (4K)" if part == "disk" else ""
            lines += rates(records, titles[part] + note)
    version = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    load = os.getloadavg()[0]
    lines = [f"{datetime.date.today()}, {os.cpu_count()} cores, load {load:.1f} at the end; {version}.", "", *lines]
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if "--write" in sys.argv[1:]:
        old = RESULTS.read_text()
        RESULTS.write_text(old[:old.index(BEGIN) + len(BEGIN)] + "\n" + text + old[old.index(END):])


main()
