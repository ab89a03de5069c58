"""The peers that Posada is measured beside: each makes, starts, stops and removes one machine from the same
Debian root file system, in the way its own documentation tells, on a host that need not run systemd."""

import ctypes
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import textwrap
import time

BRIDGE = "pbench0"
GATEWAY = "10.123.0.1"


def run(*command, **options):
    """Runs a command that must succeed; its output is shown only where it does not."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def ip_batch(*lines):
    """Runs several `ip` commands in one process."""
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"ip -batch: {done.stdout}")


LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWPID = 0x08000000, 0x20000000
MS_RDONLY, MS_REC, MS_PRIVATE, MNT_DETACH = 1, 0x4000, 0x40000, 2
SYS_PIVOT_ROOT = 155 if os.uname().machine == "x86_64" else 41


def system(call, *arguments):
    """One system call of libc's; a failure raises."""
    if call == "pivot_root":
        done = LIBC.syscall(SYS_PIVOT_ROOT, *arguments)
    else:
        done = getattr(LIBC, call)(*arguments)
    if done != 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind, flags=0, options=None):
    """mount(2)."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    system("mount", *encoded, ctypes.c_ulong(flags), None if options is None else os.fsencode(options))


def cgroup2():
    """Where cgroup v2 is mounted (hybrid hosts: beside the v1 hierarchies)."""
    return pathlib.Path(run("findmnt", "-rn", "-t", "cgroup2", "-o", "TARGET").split()[0])


class Bridge:
    """A bridge of the benchmark's own, without a port and so without a way out."""

    def __enter__(self):
        subprocess.run(["ip", "link", "del", BRIDGE], stderr=subprocess.DEVNULL)
        ip_batch(f"link add {BRIDGE} address 02:50:00:00:00:01 type bridge forward_delay 0 stp_state 0",
                 f"addr add {GATEWAY}/24 dev {BRIDGE}", f"link set {BRIDGE} up")
        return self

    def __exit__(self, *_):
        subprocess.run(["ip", "link", "del", BRIDGE], stderr=subprocess.DEVNULL)


class Peer:
    """One way to run a machine."""

    name = "?"
    user = "posada"

    def __init__(self, work, rootfs, key):
        self.work = work / self.name
        self.rootfs = rootfs
        self.key = key
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)

    def create(self):
        """Makes the machine; not part of what is timed as start."""

    def start(self):
        """Starts it and returns at once."""

    def stop(self):
        """Stops it gracefully and returns when it has stopped."""

    def destroy(self):
        """Removes it."""


class Netns:
    """A network namespace with a leg on the bridge."""

    def __init__(self, name, last):
        self.name, self.address = name, f"10.123.0.{last}"
        self.mac = f"02:50:00:00:00:{last:02x}"

    def add(self):
        ip_batch(f"netns add {self.name}",
                 f"link add v{self.name} master {BRIDGE} up type veth peer name eth0 address {self.mac} netns {self.name}")
        done = subprocess.run(["ip", "-n", self.name, "-batch", "-"], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT,
                              input=f"link set lo up\naddr add {self.address}/24 dev eth0\nlink set eth0 up\n"
                                    f"route add default via {GATEWAY}\n")
        if done.returncode != 0:
            raise RuntimeError(f"ip -n {self.name}: {done.stdout}")

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "del", f"v{self.name}"], stderr=subprocess.DEVNULL)


class Floor(Peer):
    """Bare namespaces and the box's systemd as PID 1: what nothing with this box can beat."""

    name = "floor"

    def create(self):
        for part in ("upper", "work", "merged"):
            (self.work / part).mkdir(exist_ok=True)
        self.net = Netns("pbfloor", 10)
        self.address = self.net.address

    def start(self):
        self.group = cgroup2() / "pbench-floor"
        self.group.mkdir(exist_ok=True)
        self.net.add()
        self.keeper = os.fork()
        if self.keeper == 0:
            try:
                self._keep()
            finally:
                os._exit(70)

    def _keep(self):
        """The parent of PID 1, in a process of its own: no shell, no tool, only the system calls it takes."""
        (self.group / "cgroup.procs").write_text(str(os.getpid()))
        with open(f"/run/netns/{self.net.name}") as netns:
            system("setns", netns.fileno(), 0)
        system("unshare", CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP)
        # Opened before: once init has pivoted, this process, in the same mount namespace, sees init's root.
        told = open(self.work / "init", "w")
        init = os.fork()
        if init == 0:
            try:
                self._become_init()
            finally:
                os._exit(70)
        told.write(str(init))
        told.close()
        os.waitpid(init, 0)
        os._exit(0)

    def _become_init(self):
        root = self.work / "merged"
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        mount("overlay", root, "overlay", 0,
              f"lowerdir={self.rootfs},upperdir={self.work}/upper,workdir={self.work}/work")
        os.chdir(root)
        mount("proc", "proc", "proc")
        mount("sysfs", "sys", "sysfs", MS_RDONLY)
        mount("cgroup2", "sys/fs/cgroup", "cgroup2")
        mount("tmpfs", "dev", "tmpfs", 0, "mode=755")
        os.umask(0)
        for name in ("null", "zero", "full", "random", "urandom", "tty"):
            os.mknod(f"dev/{name}", 0o666 | stat.S_IFCHR, os.stat(f"/dev/{name}").st_rdev)
        os.mkdir("dev/pts")
        os.mkdir("dev/shm")
        mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=666,mode=620,gid=5")
        os.symlink("pts/ptmx", "dev/ptmx")
        mount("tmpfs", "dev/shm", "tmpfs", 0, "mode=1777")
        mount("tmpfs", "run", "tmpfs", 0, "mode=755")
        system("pivot_root", b".", b"mnt")
        system("umount2", b"/mnt", MNT_DETACH)
        os.umask(0o022)
        socket.sethostname("floor")
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.setsid()
        os.execve("/sbin/init", ["/sbin/init"], {"container": "bench", "TERM": "dumb"})

    def stop(self):
        os.kill(int((self.work / "init").read_text()), signal.SIGRTMIN + 3)
        os.waitpid(self.keeper, 0)

    def destroy(self):
        (self.group / "cgroup.kill").write_text("1")
        self.net.remove()
        while "populated 1" in (self.group / "cgroup.events").read_text():
            time.sleep(0.001)
        for sub in sorted(self.group.rglob("*"), reverse=True):
            if sub.is_dir():
                sub.rmdir()
        self.group.rmdir()
        shutil.rmtree(self.work)
        self.work.mkdir()


class Lxc(Peer):
    """Debian's lxc: an overlay over the shared root file system, a veth on the bridge."""

    name = "lxc"

    def create(self):
        self.address = "10.123.0.11"
        box = self.work / "pbench"
        for part in ("upper", "work"):
            (box / part).mkdir(parents=True, exist_ok=True)
        (box / "config").write_text(textwrap.dedent(f"""\
            lxc.include = /usr/share/lxc/config/common.conf
            lxc.uts.name = pbench
            lxc.rootfs.path = overlayfs:{self.rootfs}:{box}/upper
            lxc.apparmor.profile = unconfined
            lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed
            lxc.net.0.type = veth
            lxc.net.0.link = {BRIDGE}
            lxc.net.0.name = eth0
            lxc.net.0.hwaddr = 02:50:00:00:00:0b
            lxc.net.0.flags = up
            lxc.net.0.ipv4.address = {self.address}/24
            lxc.net.0.ipv4.gateway = {GATEWAY}
            """))

    def start(self):
        run("lxc-start", "-P", str(self.work), "-n", "pbench", "-d")

    def stop(self):
        run("lxc-stop", "-P", str(self.work), "-n", "pbench", "-t", "30")

    def destroy(self):
        run("lxc-destroy", "-P", str(self.work), "-n", "pbench", "-f")


class Nspawn(Peer):
    """systemd-nspawn --boot, without machined: --register=no --keep-unit."""

    name = "nspawn"

    def create(self):
        for part in ("upper", "work"):
            (self.work / part).mkdir(exist_ok=True)
        self.net = Netns("pbspawn", 12)
        self.address = self.net.address

    def start(self):
        self.net.add()
        (self.work / "root").mkdir(exist_ok=True)
        run("mount", "-t", "overlay", "overlay", "-o",
            f"lowerdir={self.rootfs},upperdir={self.work}/upper,workdir={self.work}/work", str(self.work / "root"))
        self.log = open(self.work / "log", "w")
        self.process = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--machine=pbench",
             f"--directory={self.work}/root", f"--network-namespace-path=/run/netns/{self.net.name}",
             "--console=read-only", "--kill-signal=SIGRTMIN+3"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def destroy(self):
        self.net.remove()
        run("umount", str(self.work / "root"))
        shutil.rmtree(self.work)
        self.work.mkdir()


class Vagrant:
    """Vagrant with vagrant-lxc: a box made of the same root file system."""

    name = "vagrant"

    def __init__(self, work, rootfs, key):
        self.work = work / self.name
        self.rootfs = rootfs
        self.key = key
        self.environment = dict(os.environ, VAGRANT_HOME=str(self.work / "home"), VAGRANT_CHECKPOINT_DISABLE="1",
                                VAGRANT_DEFAULT_PROVIDER="lxc", HOME=str(self.work))

    def vagrant(self, *arguments):
        return run("vagrant", *arguments, cwd=self.work, env=self.environment)

    def add_box(self):
        """Makes the box file and adds it: the tarball has `./rootfs/…` as the plugin's template wants it."""
        shutil.rmtree(self.work, ignore_errors=True)
        parts = self.work / "box"
        parts.mkdir(parents=True)
        run("tar", "--numeric-owner", "--sort=name", "-C", str(self.rootfs.parent), "-czf", str(parts / "rootfs.tar.gz"),
            f"--transform=s,^./{self.rootfs.name},./rootfs,S", f"./{self.rootfs.name}")
        (parts / "metadata.json").write_text('{"provider": "lxc", "version": "1.0.0"}')
        (parts / "lxc-config").write_text(
            "lxc.include = /usr/share/lxc/config/common.conf\nlxc.apparmor.profile = unconfined\n"
            "lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed\n")
        run("tar", "-C", str(parts), "-czf", str(self.work / "pbench.box"), "metadata.json", "lxc-config", "rootfs.tar.gz")
        (self.work / "Vagrantfile").write_text(textwrap.dedent(f"""\
            Vagrant.configure("2") do |config|
              config.vm.box = "pbench"
              config.vm.synced_folder ".", "/vagrant", disabled: true
              config.vm.network :forwarded_port, guest: 22, host: 2222, id: "ssh", disabled: true
              config.ssh.username = "posada"
              config.ssh.private_key_path = "{self.key}"
              config.ssh.insert_key = false
              config.vm.provider :lxc do |lxc|
                lxc.container_name = "pbench-vagrant"
                lxc.backingstore = "dir"
                lxc.tmpfs_mount_size = false
                lxc.ssh_ip_addr = "10.123.0.13"
                lxc.customize "net.0.type", "veth"
                lxc.customize "net.0.link", "{BRIDGE}"
                lxc.customize "net.0.name", "eth0"
                lxc.customize "net.0.hwaddr", "02:50:00:00:00:0d"
                lxc.customize "net.0.flags", "up"
                lxc.customize "net.0.ipv4.address", "10.123.0.13/24"
                lxc.customize "net.0.ipv4.gateway", "{GATEWAY}"
              end
            end
            """))
        self.vagrant("box", "add", "--provider", "lxc", "--name", "pbench", str(self.work / "pbench.box"))

    def remove(self):
        subprocess.run(["lxc-destroy", "-n", "pbench-vagrant", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.work, ignore_errors=True)
