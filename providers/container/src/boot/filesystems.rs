//! The kernel's file systems in a container, and what of them is hidden.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::MountAttrFlags;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};

use super::prepare::Devices;
use crate::failure::{During, Failure};
use crate::sys::mount::{Depth, Detached};

/// What the container hands back of its file systems.
#[derive(Debug)]
pub struct Handles {
    /// The console's master side.
    pub console: OwnedFd,
    /// Its other side, for the init.
    pub terminal: OwnedFd,
    /// `/run`.
    pub run: OwnedFd,
}

const SAFE: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const DATA: MountAttrFlags = SAFE.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Hidden altogether: the list of the OCI's runtime specification and what newer kernels add to its reasons.
const HIDDEN: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Shown, but not to be written to. `/sys` is read-only as a whole.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Mounts them all below the root that has just been entered.
///
/// # Errors
/// [`Failure`] where the kernel refuses one.
pub fn mount_all(devices: Devices) -> Result<Handles, Failure> {
    fresh("proc", "/proc", &[], DATA)?;
    fresh("sysfs", "/sys", &[], DATA | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    fresh("cgroup2", "/sys/fs/cgroup", &[], DATA)?;
    mount_dev(devices)?;
    // Logs and sockets of a system's services; memory limits bound it as well.
    fresh("tmpfs", "/run", &[("mode", "0755"), ("size", "25%")], SAFE)?;
    let run = open("/run", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .during("open /run")?;
    for path in HIDDEN {
        hide(path)?;
    }
    // Network settings are the machine's own, as its network is.
    let net =
        if_there(Detached::copy_of(Path::new("/proc/sys/net"), Depth::Tree)).during("keep /proc/sys/net")?;
    for path in READ_ONLY {
        make_read_only(path)?;
    }
    if let Some(net) = net {
        net.attach(Path::new("/proc/sys/net")).during("keep /proc/sys/net writable")?;
    }
    let (console, terminal) = open_console()?;
    Ok(Handles { console, terminal, run })
}

fn fresh(kind: &str, at: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<(), Failure> {
    make_dir(at)?;
    let mounted = Detached::new(kind, options, attributes).and_then(|mount| mount.attach(Path::new(at)));
    mounted.map_err(|error| match (kind, error.kind()) {
        ("proc" | "sysfs", io::ErrorKind::PermissionDenied) => Failure::host(
            format!("cannot mount {kind} in a user namespace: {error}"),
            "posada seems to run inside a container that hides parts of /proc or /sys: start that one with nesting allowed",
        ),
        _ => Err::<(), _>(error).during(format_args!("mount {kind} at {at}")).unwrap_err(),
    })
}

fn make_dir(at: &str) -> Result<(), Failure> {
    match fs_err::create_dir(at) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.during(format_args!("make {at}")),
    }
}

fn mount_dev(devices: Devices) -> Result<(), Failure> {
    make_dir("/dev")?;
    match devices {
        Devices::Made(dev) => dev.attach(Path::new("/dev")).during("attach /dev")?,
        Devices::Shared(nodes) => {
            let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            let options = [("mode", "0755"), ("size", "1m")];
            let dev = Detached::new("tmpfs", &options, attributes).during("make a file system for /dev")?;
            dev.attach(Path::new("/dev")).during("attach /dev")?;
            make_dir("/dev/net")?;
            for (name, node) in nodes {
                let path = Path::new("/dev").join(name);
                fs_err::write(&path, "").during(format_args!("make {}", path.display()))?;
                node.attach(&path).during(format_args!("attach {}", path.display()))?;
            }
        }
    }
    for (target, name) in [
        ("/proc/self/fd", "fd"),
        ("fd/0", "stdin"),
        ("fd/1", "stdout"),
        ("fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ] {
        symlink(target, Path::new("/dev").join(name)).during(format_args!("make /dev/{name}"))?;
    }
    let terminals = [("mode", "0620"), ("gid", "5"), ("ptmxmode", "0666")];
    fresh(
        "devpts",
        "/dev/pts",
        &terminals,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?;
    fresh("tmpfs", "/dev/shm", &[("mode", "1777")], SAFE)?;
    match fresh("mqueue", "/dev/mqueue", &[], DATA) {
        // Kernels may be built without.
        Err(_) if !kernel_has("mqueue") => fs_err::remove_dir("/dev/mqueue").during("do without /dev/mqueue"),
        result => result,
    }
}

fn kernel_has(file_system: &str) -> bool {
    let known = fs_err::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split_whitespace().last() == Some(file_system))
}

/// `/dev/console` is the first terminal of the container's own.
fn open_console() -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = open("/dev/pts/ptmx", flags, Mode::empty()).during("open a terminal for the console")?;
    unlockpt(&master).during("unlock the console")?;
    let open_flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = ioctl_tiocgptpeer(&master, open_flags).during("open the console")?;
    rustix::fs::fchmod(&terminal, Mode::from_raw_mode(0o600)).during("close the console to others")?;
    let console = Path::new("/dev/console");
    fs_err::write(console, "").during("make /dev/console")?;
    let shown = Detached::copy_of(Path::new("/dev/pts/0"), Depth::One).during("show the console")?;
    shown.attach(console).during("attach /dev/console")?;
    Ok((master, terminal))
}

fn hide(path: &str) -> Result<(), Failure> {
    let hiding = format_args!("hide {path}").to_string();
    let Some(metadata) = if_there(std::fs::symlink_metadata(path)).during(&hiding)? else { return Ok(()) };
    let cover = if metadata.is_dir() {
        let attributes = DATA | MountAttrFlags::MOUNT_ATTR_RDONLY;
        Detached::new("tmpfs", &[("mode", "0555"), ("nr_inodes", "2")], attributes)
    } else {
        Detached::copy_of(Path::new("/dev/null"), Depth::One)
    };
    cover.during(&hiding)?.attach(Path::new(path)).during(&hiding)
}

fn make_read_only(path: &str) -> Result<(), Failure> {
    let doing = format!("make {path} read-only");
    let Some(view) = if_there(Detached::copy_of(Path::new(path), Depth::Tree)).during(&doing)? else {
        return Ok(());
    };
    view.set(DATA | MountAttrFlags::MOUNT_ATTR_RDONLY, Depth::Tree).during(&doing)?;
    view.attach(Path::new(path)).during(&doing)
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attaches a synced folder; directories on the way are made and belong to whom the one they are in belongs to.
/// The container's root is this process's root, so links in the box lead nowhere else.
///
/// # Errors
/// [`Failure`] where the target cannot be made.
pub fn attach_folder(mount: Detached, target: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::{MetadataExt, chown};
    let doing = format!("put a synced folder at {}", target.display());
    let kernel = ["/proc", "/sys", "/dev", "/run"];
    let own = target.components().count() > 1 && !kernel.iter().any(|taken| target == Path::new(taken));
    if !target.is_absolute() || !own || ["/proc", "/sys"].iter().any(|taken| target.starts_with(taken)) {
        let remedy = "choose another target, such as /home/user/project";
        return Err(Failure::host(format!("a synced folder cannot be at {}", target.display()), remedy));
    }
    let mut owner = (0, 0);
    let ancestors: Vec<&Path> = target.ancestors().collect();
    for path in ancestors.into_iter().rev() {
        match fs_err::create_dir(path) {
            Ok(()) => chown(path, Some(owner.0), Some(owner.1)).during(&doing)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).during(&doing),
        }
        let metadata = fs_err::metadata(path).during(&doing)?;
        if !metadata.is_dir() {
            let what = format!("{} is in the way of the synced folder {}", path.display(), target.display());
            return Err(Failure::host(what, "choose another target"));
        }
        owner = (metadata.uid(), metadata.gid());
    }
    // Links to a directory are followed here, as `cd` would.
    let place = rustix::fs::open(target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let place = place.during(&doing)?;
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | rustix::mount::MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(&mount, "", &place, "", flags).during(&doing)
}

/// Gives the container's part of the kernel its host name.
///
/// # Errors
/// [`Failure`] where the kernel refuses.
pub fn set_hostname(name: &str) -> Result<(), Failure> {
    rustix::system::sethostname(name.as_bytes()).during(format_args!("name the machine {name}"))
}
