//! Runs one machine on standard input and output, for tests and measurements of the monitor alone:
//!
//! ```text
//! boot --kernel vmlinuz [--initrd FILE] [--cmdline TEXT] [--cpus N] [--memory MIB]
//!      [--disk raw:FILE | --disk qcow2:FILE[:BACKING…]]… [--read-only-disk …] [--tap NAME]… [--folder TAG:DIR]…
//!      [--vsock CID:SOCKET] [--balloon] [--jail]
//! ```
//! Exits with 0 when the guest switches itself off, 3 when it resets, 4 when its kernel gives up, 1 where the machine
//! cannot run. SIGTERM presses the power button.

#![allow(clippy::print_stderr)]

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use posada_vmm::config::{Boot, Devices, Disk, DiskFormat, Folder, Nic, NicBackend, Owners, VmConfig, Vsock};
use posada_vmm::fuse::Root;
use posada_vmm::jail;
use posada_vmm::machine::{Exit, Vm};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("boot: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Wanted {
    config: VmConfig,
    jail: bool,
}

fn run() -> Result<ExitCode, Failure> {
    let (ours, theirs) = UnixStream::pair()?;
    let wanted = parse(theirs.into())?;
    let term = block_sigterm()?;
    if wanted.jail {
        // Files are opened while the machine is put together: this shows the filters, not what files a machine needs.
        let place = jail::Place { path: PathBuf::from("/"), access: jail::Access::Write };
        let device = jail::Place { path: PathBuf::from("/dev"), access: jail::Access::Device };
        let capabilities = vec!["CAP_NET_ADMIN".to_owned()];
        jail::enter(&jail::Rules { places: vec![place, device], capabilities })?;
    }
    let running = Vm::build(wanted.config)?.start()?;
    let mut printed = ours.try_clone()?;
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = printed.read(&mut buffer) {
            let mut out = std::io::stdout();
            if out.write_all(&buffer[..count]).and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    });
    let mut typed = ours;
    thread::spawn(move || std::io::copy(&mut std::io::stdin(), &mut typed));
    let handle = running.handle();
    thread::spawn(move || {
        let mut signal = [0; 128];
        // SAFETY: reads into a buffer of the length given.
        while unsafe { libc::read(term.as_raw_fd(), signal.as_mut_ptr().cast(), signal.len()) } > 0 {
            handle.press_power_button();
        }
    });
    let exit = running.wait();
    drop(running);
    Ok(match exit {
        Exit::PoweredOff => ExitCode::SUCCESS,
        Exit::Reset => ExitCode::from(3),
        Exit::Panicked => ExitCode::from(4),
        Exit::Killed => ExitCode::from(5),
        Exit::Failed(why) => return Err(why.into()),
    })
}

fn parse(serial: OwnedFd) -> Result<Wanted, Failure> {
    let boot = Boot { kernel: PathBuf::new(), initrd: None, cmdline: "console=ttyS0".to_owned() };
    let devices = Devices::default();
    let mut config = VmConfig { name: "boot".into(), cpus: 1, memory: 512 << 20, boot, serial, devices };
    let mut jail = false;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--kernel" => config.boot.kernel = value()?.into(),
            "--initrd" => config.boot.initrd = Some(value()?.into()),
            "--cmdline" => config.boot.cmdline = value()?,
            "--cpus" => config.cpus = value()?.parse()?,
            "--memory" => config.memory = value()?.parse::<u64>()? << 20,
            "--disk" => config.devices.disks.push(disk(&value()?, false)?),
            "--read-only-disk" => config.devices.disks.push(disk(&value()?, true)?),
            "--tap" => config.devices.nics.push(nic(&value()?, config.devices.nics.len())?),
            "--folder" => config.devices.folders.push(folder(&value()?)?),
            "--vsock" => {
                let value = value()?;
                let (cid, path) = value.split_once(':').ok_or("--vsock CID:SOCKET")?;
                config.devices.vsock = Some(Vsock { cid: cid.parse()?, path: path.into() });
            }
            "--balloon" => config.devices.balloon = true,
            "--jail" => jail = true,
            _ => return Err(format!("{word} is no option").into()),
        }
    }
    Ok(Wanted { config, jail })
}

fn disk(text: &str, read_only: bool) -> Result<Disk, Failure> {
    let mut parts = text.split(':');
    let format = match parts.next() {
        Some("raw") => DiskFormat::Raw,
        Some("qcow2") => DiskFormat::Qcow2,
        _ => return Err("a disk is raw:FILE or qcow2:FILE".into()),
    };
    let path = parts.next().ok_or("a disk needs a file")?.into();
    Ok(Disk { path, format, read_only, serial: String::new(), backing: parts.map(PathBuf::from).collect() })
}

fn folder(text: &str) -> Result<Folder, Failure> {
    let (tag, path) = text.split_once(':').ok_or("--folder TAG:DIR")?;
    // SAFETY: neither call can fail or touches memory.
    let host = unsafe { (libc::geteuid(), libc::getegid()) };
    let owners = Owners { host, guest: (1000, 1000) };
    let root = Root::open(path.as_ref())?;
    Ok(Folder { tag: tag.to_owned(), root, read_only: false, owners, changes: None })
}

/// Opens an existing tap.
fn nic(name: &str, index: usize) -> Result<Nic, Failure> {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
    let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: a zeroed request is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the request is complete and outlives the call.
    if unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, &raw mut request) } < 0 {
        return Err(format!("tap {name}: {}", std::io::Error::last_os_error()).into());
    }
    let mac = [0x52, 0x54, 0, 0, 0, 1 + index as u8];
    Ok(Nic { mac, mtu: 1500, backend: NicBackend::Tap(tun.into()) })
}

/// A descriptor of the termination signals, which then end nothing by themselves.
fn block_sigterm() -> Result<OwnedFd, Failure> {
    use std::os::fd::FromRawFd;
    // SAFETY: the set is initialised by the first call and outlives the others.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
        if fd < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
