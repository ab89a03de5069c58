//! What the machine's own root cannot do. All of it runs as services of the machine: with its capabilities and
//! behind its system call filter.

use libtest_mimic::Trial;

use crate::rig::Machine;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    vec![trial("its_root_has_no_power_over_the_host", no_power)]
}

pub async fn no_power() {
    let machine = Machine::new("web");
    let live = machine.start().await.unwrap();
    live.boot();
    let map = live.confined("cat /proc/self/uid_map");
    for line in map.lines() {
        let numbers: Vec<u64> = line.split_whitespace().map(|field| field.parse().unwrap()).collect();
        assert!(numbers[1] > 0, "no id is the host's root: {map}");
    }
    assert_eq!(live.confined("id -u"), "0");

    // Each line ends with what must not have happened.
    for (attack, why) in [
        ("mknod /srv/disk b 8 0 && head -c1 /srv/disk", "a device node of the host's disk"),
        ("mknod /dev/mem c 1 1 && head -c1 /dev/mem", "memory"),
        ("umount /proc/kcore; umount /proc/kcore; head -c1 /proc/kcore | grep -q .", "the kernel's memory"),
        (
            "umount /proc/sysrq-trigger; umount /proc/sysrq-trigger; echo h > /proc/sysrq-trigger",
            "the kernel's keys",
        ),
        (
            "mount -o remount,rw /proc/sys; echo /srv/x > /proc/sys/kernel/core_pattern",
            "a program run by the kernel",
        ),
        ("mount -o remount,rw /sys; echo 1 > /sys/kernel/mm/ksm/run", "settings of the kernel"),
        ("mount -t cgroup -o pids x /mnt && echo max > /mnt/pids.max", "version 1 limits"),
        ("mount -t ext4 /dev/vda /mnt", "the host's file systems"),
        ("mount -t debugfs x /mnt", "the kernel's debugging"),
        ("echo 1 > /sys/fs/cgroup/pids.max", "its own limits"),
        ("date -s 2001-01-01", "the clock"),
        ("dmesg | grep -q .", "the kernel's log"),
        ("chroot /proc/1/root/../../../.. test -d /root/.ssh/../../proc/1/root/work", "the host's root"),
        (
            "kill -9 $(cat /proc/sys/kernel/ns_last_pid) 2>/dev/null; nsenter -t 1 -m -- test -e /proc/2/exe/x",
            "other processes",
        ),
        ("swapon /srv/swap", "swap"),
    ] {
        let output = live.sh(&format!("systemd-run --quiet --pipe --wait /bin/sh -c '{attack}' 2>&1"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success(), "{why}: `{attack}` worked: {text}");
    }

    // Calls that the filter answers: number, and errno that is told.
    for (call, number, errno) in [
        ("kexec_load", 246, libc::EPERM),
        ("init_module", 175, libc::EPERM),
        ("open_by_handle_at", 304, libc::EPERM),
        ("settimeofday", 164, libc::EPERM),
        ("bpf", 321, libc::EPERM),
        ("perf_event_open", 298, libc::EPERM),
        ("userfaultfd", 323, libc::EPERM),
        ("keyctl", 250, libc::ENOSYS),
        ("getpid of x32", 0x4000_0027, libc::ENOSYS),
    ] {
        let told = live
            .confined(&format!("perl -e \"\\$r = syscall({number}, 0, 0, 0, 0); print \\$r, q( ), \\$!+0\""));
        assert_eq!(told, format!("-1 {errno}"), "{call}");
    }

    // What it has over itself, it needs.
    for right in [
        "mount -t tmpfs x /mnt && umount /mnt",
        "unshare --map-root-user --mount --pid --fork --mount-proc true || unshare --mount true",
        "hostname other && hostname web",
        "sysctl -q -w net.ipv4.ip_forward=1 || echo 1 > /proc/sys/net/ipv4/ip_forward",
        "ip link add dummy7 type dummy || ip link add br7 type bridge",
        "mkdir /sys/fs/cgroup/mine && rmdir /sys/fs/cgroup/mine",
        "touch /srv/f && chown 12:34 /srv/f && chmod 4755 /srv/f",
    ] {
        live.confined(right);
    }
    let bounding = live.confined("grep CapBnd /proc/self/status");
    let bounding = u64::from_str_radix(bounding.split_whitespace().last().unwrap(), 16).unwrap();
    for (name, number) in
        [("SYS_MODULE", 16), ("SYS_RAWIO", 17), ("SYS_TIME", 25), ("SYSLOG", 34), ("BPF", 39)]
    {
        assert_eq!(bounding & (1 << number), 0, "{name}");
    }
    live.keeper.kill().unwrap();
    live.end().await;
}
