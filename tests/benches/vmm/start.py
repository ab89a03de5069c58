"""From exec of the monitor to the first line of the guest's init; how often the guest was left for that.

    start.py ROUNDS KERNEL INITRD
"""

import pathlib
import sys

import record
from monitors import MONITORS, Running, Spec

COUNTERS = ("exits", "io_exits", "mmio_exits", "pf_taken")
CMDLINE = "console=ttyS0 quiet panic=-1"


def counters():
    """What KVM has counted for the one machine there is; none where debugfs is not mounted."""
    machine = next(pathlib.Path("/sys/kernel/debug/kvm").glob("*/vcpu0"), pathlib.Path("/none/vcpu0")).parent
    return {name: int((machine / name).read_text()) for name in COUNTERS if (machine / name).exists()}


def main():
    rounds, kernel, initrd = int(sys.argv[1]), *sys.argv[2:4]
    for number in range(rounds):
        for name in record.turn(MONITORS, number):
            spec = Spec(kernel=kernel, initrd=initrd, cmdline=CMDLINE)
            with Running(MONITORS[name](spec)) as running:
                seconds = running.until("POSADA-INIT")
                record.put("start", monitor=name, seconds=seconds, counters=counters())


main()
