"""Disk and network throughput inside of a guest (guest.sh), whose first disk has the programs.

    throughput.py disk raw|qcow2 ROUNDS SECONDS KERNEL INITRD IMAGE
    throughput.py net tap ROUNDS SECONDS KERNEL INITRD IMAGE
"""

import functools
import pathlib
import re
import subprocess
import sys

import record
from monitors import MONITORS, Running, Spec

SCRATCH = pathlib.Path("/scratch")
TAP, HOST, GUEST = "bench0", "10.77.0.1", "10.77.0.2"
DISK_MIB = 256

# Each peer in each way that could be its best.
WAYS = {
    "disk": {"posada": {}, "microvm": {"aio": "io_uring"}, "q35": {"aio": "io_uring"}, "q35, threads": {"aio": "threads"}},
    "net": {"posada": {}, "microvm": {}, "q35": {}, "q35, vhost": {"vhost": "on"}},
}


def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def fresh_disk(kind):
    """The disk to be measured as (format, path), full of noise; a qcow2 is a new overlay over such a file."""
    base = SCRATCH / "base"
    if not base.exists():
        run("dd", "if=/dev/urandom", f"of={base}", "bs=1M", f"count={DISK_MIB}", "status=none")
    if kind == "raw":
        return "raw", str(base)
    top = SCRATCH / "top"
    top.unlink(missing_ok=True)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(top))
    return "qcow2", str(top)


def make_tap():
    run("ip", "tuntap", "add", "dev", TAP, "mode", "tap", "vnet_hdr")
    run("ip", "address", "add", f"{HOST}/24", "dev", TAP)
    run("ip", "link", "set", TAP, "up")


def main():
    part, kind, rounds, seconds, kernel, initrd, image = sys.argv[1:8]
    server = None
    if part == "net":
        make_tap()
        server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
    for number in range(int(rounds)):
        for name in record.turn(WAYS[part], number):
            disks, net, words = [("raw", image, True)], "", f"disk {seconds}"
            if part == "disk":
                form, path = fresh_disk(kind)
                disks.append((form, path, False))
            else:
                net, words = TAP, f"net {GUEST} {HOST} {seconds}"
            make = functools.partial(MONITORS[name.split(",")[0]], **WAYS[part][name])
            spec = Spec(kernel=kernel, initrd=initrd, cmdline=f"console=ttyS0 quiet panic=-1 -- {words}", disks=disks, net=net)
            if name == "posada" and kind == "qcow2":
                # It takes no backing file that it was not told of.
                spec.disks[1] = (form, f"{path}:{SCRATCH / 'base'}", False)
            with Running(make(spec)) as running:
                running.until("POSADA-STATUS")
                text = running.text.decode(errors="replace")
            results = {key: float(value) for key, value in re.findall(r"RESULT (\S+) ([\d.]+)", text)}
            if not results:
                raise RuntimeError(f"{name} has no results: {text[-3000:]}")
            record.put(part, kind=kind, monitor=name, results=results)
    if server:
        server.kill()


if __name__ == "__main__":
    main()
