"""What a sleeping guest costs its host: memory of the monitor beside the guest's own, wake-ups, CPU time.

    idle.py ROUNDS KERNEL INITRD
"""

import pathlib
import re
import sys
import time

import record
from monitors import MONITORS, Running, Spec

SETTLE, WATCH = 3.0, 10.0
MEMORY = 512


def memory(pid):
    """Resident KiB of everything but the guest's memory: (all, of that private to the process)."""
    resident = private = guest = size = 0
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            start, end = (int(word, 16) for word in words[0].split("-"))
            # Nothing else is that large and resident.
            size, ours = end - start, end - start < MEMORY << 20
        elif words[0] == "Rss:":
            resident += int(words[1]) * ours
            guest += int(words[1]) * (not ours)
        elif words[0].startswith("Private_"):
            private += int(words[1]) * ours
    assert guest > 16 << 10, f"the guest's memory was not found: {guest} KiB"
    return {"resident": resident, "private": private, "guest": guest}


def threads(pid):
    """Of the vCPU's thread and of all others: how often they were switched away from, and CPU seconds."""
    sums = {"vcpu": [0, 0.0], "others": [0, 0.0]}
    count = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        kind = "vcpu" if re.match(r"vcpu\d|CPU \d", (task / "comm").read_text()) else "others"
        switches = re.findall(r"ctxt_switches:\s+(\d+)", (task / "status").read_text())
        sums[kind][0] += sum(map(int, switches))
        sums[kind][1] += int((task / "schedstat").read_text().split()[0]) / 1e9
        count += 1
    return sums, count


def main():
    rounds, kernel, initrd = int(sys.argv[1]), *sys.argv[2:4]
    for number in range(rounds):
        for name in record.turn(MONITORS, number):
            spec = Spec(kernel=kernel, initrd=initrd, cmdline="console=ttyS0 quiet -- sleep 1000", memory=MEMORY)
            with Running(MONITORS[name](spec)) as running:
                running.until("POSADA-READY")
                # Not for anything to happen, but for what the boot left behind to have happened.
                time.sleep(SETTLE)
                before, count = threads(running.pid)
                time.sleep(WATCH)
                after, _ = threads(running.pid)
                used = {kind: {"switches": after[kind][0] - before[kind][0], "cpu": after[kind][1] - before[kind][1]}
                        for kind in before}
                record.put("idle", monitor=name, watched=WATCH, threads=count, used=used, memory=memory(running.pid))


main()
