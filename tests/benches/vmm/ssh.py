"""From exec of the monitor to sshd's banner over a tap: a stock image at its first boot, its own kernel and initrd, with a
NoCloud seed.

    ssh.py ROUNDS KERNEL INITRD IMAGE ROOT      where IMAGE is qcow2 and ROOT what the kernel is told as root=
"""

import pathlib
import socket
import subprocess
import sys
import time

import record
from monitors import MONITORS, Running, Spec
from throughput import GUEST, TAP, make_tap, run

SCRATCH = pathlib.Path("/scratch")
# The address is given by hand: the image's way of configuring networks knows interfaces by their names only, which
# each machine has others of.
SEED = {
    "meta-data": "instance-id: bench\nlocal-hostname: guest\n",
    "user-data": "#cloud-config\nusers:\n  - name: ana\nbootcmd:\n  - |\n"
                 "    for nic in /sys/class/net/e*; do\n"
                 f"        ip address add {GUEST}/24 dev \"${{nic##*/}}\"\n"
                 "        ip link set \"${nic##*/}\" up\n"
                 "    done\n",
    "network-config": "config: disabled\n",
}


def make_seed():
    seed = SCRATCH / "seed"
    run("mkfs.vfat", "-C", "-n", "CIDATA", str(seed), "64")
    for name, text in SEED.items():
        (SCRATCH / name).write_text(text)
        run("mcopy", "-i", str(seed), str(SCRATCH / name), f"::{name}")
    return str(seed)


def banner(running, limit=900):
    """Asks often enough to tell tenths of seconds, and not more: there is one CPU for guest and question."""
    while running.elapsed() < limit:
        if running.process.poll() is not None:
            raise RuntimeError(f"the monitor ended: {running.process.stderr.read().decode()}")
        running.drain()
        with socket.socket() as probe:
            probe.settimeout(0.2)
            try:
                probe.connect((GUEST, 22))
                probe.settimeout(30)
                if probe.recv(64).startswith(b"SSH-"):
                    return running.elapsed()
            except OSError:
                time.sleep(0.1)
    raise RuntimeError(f"no banner within {limit} s: {running.text[-3000:].decode(errors='replace')}")


def main():
    rounds, kernel, initrd, image, root = int(sys.argv[1]), *sys.argv[2:6]
    make_tap()
    seed = make_seed()
    for number in range(rounds):
        for name in record.turn(MONITORS, number):
            top = SCRATCH / "top"
            top.unlink(missing_ok=True)
            run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", image, str(top))
            path = f"{top}:{image}" if name == "posada" else str(top)
            spec = Spec(kernel=kernel, initrd=initrd, cmdline=f"root={root} ro console=ttyS0 quiet", memory=1024, net=TAP,
                        disks=[("qcow2", path, False), ("raw", seed, True)])
            with Running(MONITORS[name](spec)) as running:
                record.put("ssh", monitor=name, seconds=banner(running))


if __name__ == "__main__":
    main()
