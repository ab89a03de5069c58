"""From exec of the monitor to the first line of the guest's init; how often the guest was left for that.

    start.py ROUNDS VMLINUZ VMLINUX INITRD

VMLINUZ is the kernel as packaged, VMLINUX the same unpacked, as Posada's store keeps it.
"""

import pathlib
import sys

import record
from monitors import MONITORS, Running, Spec

COUNTERS = ("exits", "io_exits", "mmio_exits", "pf_taken")
PACKED, UNPACKED = "bzImage", "unpacked"
CMDLINE = "console=ttyS0 quiet panic=-1"


def counters():
    """What KVM has counted for the one machine there is; none where debugfs is not mounted."""
    machine = next(pathlib.Path("/sys/kernel/debug/kvm").glob("*/vcpu0"), pathlib.Path("/none/vcpu0")).parent
    return {name: int((machine / name).read_text()) for name in COUNTERS if (machine / name).exists()}


def main():
    rounds, vmlinuz, vmlinux, initrd = int(sys.argv[1]), *sys.argv[2:5]
    for number in range(rounds):
        for kind, kernel in ((PACKED, vmlinuz), (UNPACKED, vmlinux)):
            for name in record.turn(MONITORS, number):
                spec = Spec(kernel=kernel, initrd=initrd, cmdline=CMDLINE)
                with Running(MONITORS[name](spec)) as running:
                    seconds = running.until("POSADA-INIT")
                    record.put("start", kind=kind, monitor=name, seconds=seconds, counters=counters())


main()
