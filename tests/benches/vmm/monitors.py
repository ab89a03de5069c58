"""The monitors that are measured: how each is told of the same machine. Runs inside of the rig.

Each peer has the configuration that serves it best for a direct boot: nothing by default, no firmware menu, no devices
of old that a kernel would probe. What they are given beside that is the same for all.
"""

import dataclasses
import os
import select
import subprocess
import time

POSADA = os.environ.get("POSADA_BOOT", "")
QEMU = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-name", "guest,debug-threads=on", "-serial", "stdio", "-monitor", "none"]


@dataclasses.dataclass
class Spec:
    """A machine. `disks` are (format, path, read-only) in the guest's order, `net` is a tap's name or "user"."""

    kernel: str
    initrd: str
    cmdline: str
    memory: int = 512
    cpus: int = 1
    disks: list = dataclasses.field(default_factory=list)
    net: str = ""


def posada(spec, **_):
    argv = [POSADA, "--kernel", spec.kernel, "--initrd", spec.initrd, "--cmdline", spec.cmdline,
            "--cpus", str(spec.cpus), "--memory", str(spec.memory)]
    for kind, path, read_only in spec.disks:
        argv += ["--read-only-disk" if read_only else "--disk", f"{kind}:{path}"]
    if spec.net:
        argv += ["--tap", spec.net]
    return argv


def qemu(machine, spec, aio="threads", vhost="off", pci=True):
    argv = QEMU + machine + ["-m", str(spec.memory), "-smp", str(spec.cpus), "-kernel", spec.kernel, "-initrd", spec.initrd,
                             "-append", spec.cmdline]
    bus = "pci" if pci else "device"
    for number, (kind, path, read_only) in enumerate(spec.disks):
        argv += ["-drive", f"if=none,id=disk{number},file={path.split(':')[0]},format={kind},cache=writeback,aio={aio},discard=unmap,"
                           f"read-only={'on' if read_only else 'off'}",
                 "-device", f"virtio-blk-{bus},drive=disk{number}"]
    if spec.net == "user":
        argv += ["-netdev", "user,id=net"]
    elif spec.net:
        argv += ["-netdev", f"tap,id=net,ifname={spec.net},script=no,downscript=no,vhost={vhost}"]
    if spec.net:
        argv += ["-device", f"virtio-net-{bus},netdev=net,mac=52:54:00:00:00:01" + (",romfile=" if pci else "")]
    return argv + ["-device", f"virtio-rng-{bus}"]


def microvm(spec, **options):
    """PCI where a device needs it, as stock kernels find virtio-mmio by a driver that initrds often lack; else none. With
    the clock, without which a stock kernel looks for it in vain for seconds, and the firmware that is the soonest."""
    pci = bool(spec.disks or spec.net)
    machine = ["-M", f"microvm,rtc=on,acpi=on,pcie={'on' if pci else 'off'}", "-bios", "qboot.rom"]
    return qemu(machine, spec, pci=pci, **options)


def q35(spec, bios="bios-256k.bin", **options):
    return qemu(["-M", "q35,hpet=off,smbus=off,sata=off,usb=off,vmport=off", "-bios", bios], spec, **options)


def q35_qboot(spec, **options):
    """With QEMU's small firmware, which starts a kernel sooner than SeaBIOS does."""
    return q35(spec, bios="qboot.rom", **options)


MONITORS = {"posada": posada, "microvm": microvm, "q35": q35, "q35, qboot": q35_qboot}


class Running:
    """A monitor that runs. Times are seconds from just before its exec."""

    def __init__(self, argv):
        self.text = b""
        self.began = time.monotonic()
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.set_blocking(self.process.stdout.fileno(), False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()

    @property
    def pid(self):
        return self.process.pid

    def elapsed(self):
        return time.monotonic() - self.began

    def until(self, word, limit=120.0):
        """The time at which the guest has printed `word`."""
        while word.encode() not in self.text:
            left = limit - self.elapsed()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise RuntimeError(f"no {word} within {limit:.0f} s; the console's end: {self.text[-2000:].decode(errors='replace')}")
            some = os.read(self.process.stdout.fileno(), 65536)
            if not some:
                said = self.process.stderr.read().decode(errors="replace")
                raise RuntimeError(f"the monitor ended without {word}: {said}{self.text[-2000:].decode(errors='replace')}")
            self.text += some
        return self.elapsed()

    def drain(self):
        """Takes what the guest has printed so far, so that no pipe fills up."""
        while select.select([self.process.stdout], [], [], 0)[0]:
            some = os.read(self.process.stdout.fileno(), 65536)
            if not some:
                return
            self.text += some
