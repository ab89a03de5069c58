#!/usr/bin/env -S python3 -B
"""Posada beside its peers, in one run, on the same Debian root file system. Run as root through `make bench`.

    POSADA=target/release/posada tests/benches/start.py [--rounds N] [--only NAME,…] [--write]

Measured from the command that starts a machine to sshd's banner, and to the end of a first command over SSH,
rounds of all peers taking turns so that a busy spell meets them all; then stop and destroy. Medians are shown.
`--write` puts the tables into RESULTS.md beside this file. Nothing here is a test: no time fails anything.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import peers
from peers import run

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = "systemd,systemd-sysv,dbus,openssh-server,sudo,iproute2,ca-certificates"


def milliseconds(call, *arguments):
    began = time.monotonic()
    call(*arguments)
    return (time.monotonic() - began) * 1e3


def make_rootfs(work):
    """The root file system that all share: made once from Debian's packages, with a user who may log in."""
    key, rootfs = work / "id", work / "rootfs"
    if not key.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    if not (rootfs / "made").exists():
        shutil.rmtree(rootfs, ignore_errors=True)
        hook = work / "hook"
        hook.write_text(
            '#!/bin/sh\nset -e\nr=$1\nchroot "$r" useradd -m -u 1000 -s /bin/bash posada\n'
            'install -d -m 700 "$r/home/posada/.ssh"\n'
            f'install -m 600 "{key}.pub" "$r/home/posada/.ssh/authorized_keys"\n'
            'chroot "$r" chown -R posada:posada /home/posada/.ssh\n'
            "echo 'posada ALL=(ALL) NOPASSWD:ALL' > \"$r/etc/sudoers.d/posada\"\n"
            # No peer has a way out here: a name server that does not answer would stall each `sudo`.
            ': > "$r/etc/resolv.conf"; echo 127.0.0.1 localhost > "$r/etc/hosts"\ntouch "$r/made"\n')
        hook.chmod(0o755)
        run("mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook={hook}", "bookworm", str(rootfs))
    return key, rootfs


def wait_for_banner(address, began, limit=60.0):
    """Milliseconds from `began` until sshd at `address` has sent its banner."""
    while time.monotonic() - began < limit:
        with socket.socket() as probe:
            probe.settimeout(0.05)
            try:
                probe.connect((address, 22))
                probe.settimeout(5)
                if probe.recv(64).startswith(b"SSH-"):
                    return (time.monotonic() - began) * 1e3
            except OSError:
                time.sleep(0.002)
    raise RuntimeError(f"no sshd at {address} within {limit:.0f} s")


def ssh_true(peer):
    run("ssh", "-F", "/dev/null", "-i", str(peer.key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "LogLevel=ERROR", "-o", "KexAlgorithms=curve25519-sha256", f"{peer.user}@{peer.address}", "true")


def round_of_peer(peer, into):
    peer.create()
    began = time.monotonic()
    peer.start()
    try:
        into["banner"].append(wait_for_banner(peer.address, began))
        ssh_true(peer)
        into["first command"].append((time.monotonic() - began) * 1e3)
        into["ssh true"].append(milliseconds(ssh_true, peer))
        into["halt"].append(milliseconds(peer.stop))
    finally:
        into["destroy"].append(milliseconds(peer.destroy))


class Posada:
    """The release binary with a home and a project of its own, on a box made of the same root file system."""

    name = "posada"

    def __init__(self, binary, work, rootfs, box=None):
        self.binary, self.box = binary, box or "bench/debian"
        self.name = "posada" if box is None else f"posada, {box}"
        self.home, self.project = work / "posada-home", work / f"posada-{self.box.replace('/', '-')}"
        self.environment = dict(os.environ, POSADA_HOME=str(self.home))
        shutil.rmtree(self.project, ignore_errors=True)
        self.project.mkdir(parents=True)
        (self.project / "Vmfile").write_text(
            f"version: 1\nbox: {self.box}\nprovider: container\nssh:\n  username: posada\n")
        boxes = self.posada("box", "list", "--json")
        if self.box not in boxes:
            if box is None:
                archive = work / "rootfs.tar.gz"
                run("tar", "--numeric-owner", "-C", str(rootfs), "-czf", str(archive), ".")
                self.posada("box", "add", str(archive), "--name", self.box)
            else:
                self.posada("box", "build", self.box)

    def posada(self, *arguments):
        return run(str(self.binary), *arguments, cwd=self.project, env=self.environment)

    def round(self, into):
        began = time.monotonic()
        self.posada("up")
        into["banner"].append(float("nan"))
        try:
            self.posada("ssh", "-c", "true")
            into["first command"].append((time.monotonic() - began) * 1e3)
            into["ssh true"].append(milliseconds(self.posada, "ssh", "-c", "true"))
            into["halt"].append(milliseconds(self.posada, "halt"))
            into["up after halt"].append(milliseconds(self.posada, "up"))
            self.posada("halt")
        finally:
            into["destroy"].append(milliseconds(self.posada, "destroy", "--force"))


def round_of_vagrant(vagrant, into):
    into["banner"].append(float("nan"))
    began = time.monotonic()
    vagrant.vagrant("up")
    vagrant.vagrant("ssh", "-c", "true")
    into["first command"].append((time.monotonic() - began) * 1e3)
    into["ssh true"].append(milliseconds(vagrant.vagrant, "ssh", "-c", "true"))
    into["halt"].append(milliseconds(vagrant.vagrant, "halt"))
    into["up after halt"].append(milliseconds(vagrant.vagrant, "up"))
    vagrant.vagrant("halt")
    into["destroy"].append(milliseconds(vagrant.vagrant, "destroy", "--force"))


COLUMNS = ["banner", "first command", "ssh true", "halt", "up after halt", "destroy"]


def table(results):
    """The medians as a Markdown table; the last column sets the first command beside the floor's."""
    median = {name: {column: statistics.median(times) if times else float("nan") for column, times in columns.items()}
              for name, columns in results.items()}
    floor = median.get("floor", {}).get("first command")
    lines = ["| | " + " | ".join(COLUMNS) + " | first command ÷ floor |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, columns in median.items():
        cells = ["" if value != value else f"{value:,.0f}" for value in (columns[column] for column in COLUMNS)]
        ratio = f"{columns['first command'] / floor:.2f}" if floor else ""
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


def commands_table(posada):
    """`posada --version` and `posada status`, by hyperfine."""
    posada.posada("up")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            out = pathlib.Path(scratch) / "hyperfine.json"
            run("hyperfine", "-N", "--warmup", "5", "--runs", "50", "--export-json", str(out),
                f"{posada.binary} --version", f"{posada.binary} status", cwd=posada.project, env=posada.environment)
            measured = json.loads(out.read_text())["results"]
    finally:
        posada.posada("destroy", "--force")
    lines = ["| command | median ms | slowest ms |", "|---|---|---|"]
    for entry in measured:
        command = entry["command"].replace(str(posada.binary), "posada")
        lines.append(f"| `{command}` | {entry['median'] * 1e3:.1f} | {entry['max'] * 1e3:.1f} |")
    return "\n".join(lines)


def write_results(text):
    path = HERE / "RESULTS.md"
    marks = "<!-- measured: begin -->", "<!-- measured: end -->"
    page = path.read_text()
    page = re.sub(re.escape(marks[0]) + ".*" + re.escape(marks[1]), lambda _: f"{marks[0]}\n{text}\n{marks[1]}", page, flags=re.S)
    path.with_suffix(".new").write_text(page)
    path.with_suffix(".new").rename(path)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=10, help="rounds of the quick ones")
    options.add_argument("--slow-rounds", type=int, default=3, help="rounds of vagrant")
    options.add_argument("--only", help="names, comma-separated")
    options.add_argument("--work", type=pathlib.Path, default=pathlib.Path(f"/var/tmp/posada-bench-{os.getuid()}"))
    options.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    options = options.parse_args()
    if os.getuid() != 0:
        sys.exit("the peers need root: run this as root")
    work = options.work
    work.mkdir(mode=0o755, parents=True, exist_ok=True)
    chosen = (lambda name: True) if options.only is None else (lambda name: name in options.only.split(","))

    key, rootfs = make_rootfs(work)
    results = {}
    quick = []
    for peer in (peers.Floor, peers.Lxc, peers.Nspawn):
        if chosen(peer.name):
            made = peer(work, rootfs, key)
            quick.append((made.name, lambda into, made=made: round_of_peer(made, into)))
    posada = None
    if chosen("posada"):
        binary = pathlib.Path(os.environ["POSADA"]).resolve()
        posada = Posada(binary, work, rootfs)
        quick.append((posada.name, posada.round))
        own = Posada(binary, work, rootfs, "debian/12")
        quick.append((own.name, own.round))
    for name, _ in quick:
        results[name] = {column: [] for column in COLUMNS}

    with peers.Bridge():
        for number in range(options.rounds):
            for name, one_round in quick:
                one_round(results[name])
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        if chosen("vagrant"):
            vagrant = peers.Vagrant(work, rootfs, key)
            results["vagrant"] = {column: [] for column in COLUMNS}
            try:
                vagrant.add_box()
                for number in range(options.slow_rounds):
                    round_of_vagrant(vagrant, results["vagrant"])
                    print(f"vagrant, round {number + 1} of {options.slow_rounds}", file=sys.stderr)
            finally:
                vagrant.remove()

    load = os.getloadavg()
    text = [f"{datetime.date.today()}, Linux {platform.release()}, {os.cpu_count()} cores, load "
            f"{load[0]:.1f} at the end; medians in milliseconds of {options.rounds} rounds "
            f"({options.slow_rounds} of vagrant).", "", table(results)]
    if posada is not None:
        text += ["", commands_table(posada)]
    text = "\n".join(text)
    print(text)
    if options.write:
        write_results(text)


if __name__ == "__main__":
    main()
