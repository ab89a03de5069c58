"""The peers that Posada is measured beside: each makes, starts, stops and removes one machine from the same
Debian root file system, in the way its own documentation tells, on a host that need not run systemd."""

import os
import pathlib
import shutil
import signal
import subprocess
import textwrap

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
    script = textwrap.dedent("""\
        set -e
        mount -t overlay overlay -o lowerdir=$1,upperdir=$2/upper,workdir=$2/work $2/merged
        cd $2/merged
        mount -t proc proc proc
        mount -t sysfs -o ro sysfs sys
        mount -t cgroup2 cgroup2 sys/fs/cgroup
        mount -t tmpfs -o mode=755 tmpfs dev
        for n in null zero full random urandom tty; do cp -a /dev/$n dev/$n; done
        mkdir dev/pts dev/shm
        mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
        ln -s pts/ptmx dev/ptmx
        mount -t tmpfs -o mode=1777 tmpfs dev/shm
        mount -t tmpfs -o mode=755 tmpfs run
        pivot_root . mnt
        umount -l /mnt
        hostname floor
        exec env -i container=bench TERM=dumb /sbin/init </dev/null >/dev/null 2>&1
        """)

    def create(self):
        for part in ("upper", "work", "merged"):
            (self.work / part).mkdir(exist_ok=True)
        self.net = Netns("pbfloor", 10)
        self.address = self.net.address

    def start(self):
        self.group = cgroup2() / "pbench-floor"
        self.group.mkdir(exist_ok=True)
        self.net.add()

        def join():
            (self.group / "cgroup.procs").write_text(str(os.getpid()))

        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.net.name, "unshare", "--mount", "--propagation", "private", "--pid",
             "--fork", "--kill-child", "--uts", "--ipc", "--cgroup", "sh", "-c", self.script, "sh",
             str(self.rootfs), str(self.work)],
            preexec_fn=join, stdin=subprocess.DEVNULL)

    def stop(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGRTMIN + 3)
        self.process.wait()

    def destroy(self):
        (self.group / "cgroup.kill").write_text("1")
        self.net.remove()
        for sub in sorted(self.group.rglob("*"), reverse=True):
            if sub.is_dir():
                sub.rmdir()
        try:
            self.group.rmdir()
        except OSError:
            pass
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
