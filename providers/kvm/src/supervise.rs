//! The supervisor of one virtual machine: the monitor runs in it, with forwards, NAT and console around, for as long as
//! the machine lives, reboots included.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use posada_network::private::Private;
use posada_provider_api::{MachineDir, Observer, ProviderError};
use posada_supervisor::machine::Stage;
use posada_supervisor::owner::log;
use posada_supervisor::remote::blocking;
use posada_supervisor::{ConsoleHub, Guest, Machine, Owner, own};
use posada_vmm::config::FaultListener;
use posada_vmm::machine::{Exit, Handle, Vm};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::assemble::{Assembly, Ends, assemble};
use crate::console_watch::ConsoleWatch;
use crate::failure;
use crate::folders::Folders;
use crate::guest::VirtualMachine;
use crate::top::Top;
use crate::{instance, jail};

/// The hidden command that makes a process the supervisor of a virtual machine.
pub const ENTRY: &str = "__kvm-supervise";

/// How long what a machine printed last may take to be read once nothing of it runs.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Runs as the supervisor of the machine whose directory is the only argument; returns when it has ended.
pub fn entry(args: &[OsString]) -> ExitCode {
    let [dir] = args else { return ExitCode::from(2) };
    let dir = MachineDir::new(dir);
    // All that is made outside of the machine's directory is this process's, and goes with it.
    // Pinned before the process is confined, and the same ones from then on.
    let folders = OnceCell::new();
    let confine = |spec: &_| {
        let pinned = Arc::new(Folders::open(spec)?);
        jail::enter(&dir, spec)?;
        folders.get_or_init(|| pinned);
        Ok(())
    };
    let live = async |owner: Owner<'_>| match folders.get() {
        Some(folders) => live(owner, folders).await,
        None => Err(ProviderError::Internal { what: "the machine's process is not confined".to_owned() }),
    };
    match own(&dir, confine, live, || Ok(())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&error);
            ExitCode::FAILURE
        }
    }
}

/// The machine's life, from its start to its end.
async fn live(owner: Owner<'_>, folders: &Arc<Folders>) -> Result<(), ProviderError> {
    let machine = &owner.machine;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused("listen for signals"))?;
    let mut phase = "starting";
    loop {
        machine.phase(phase);
        let mut boot = Boot::begin(&owner, folders).await?;
        machine.enter(Stage::Running(boot.guest.clone()));
        let exit = boot.end(&owner, &mut terminate).await?;
        if matches!(exit, Exit::PoweredOff | Exit::Reset) {
            instance::settle(&Top::of(owner.dir).instance())?;
        }
        match exit {
            Exit::Reset if !machine.is_stopping() => {
                machine.enter(Stage::Starting);
                phase = "rebooting";
            }
            Exit::PoweredOff | Exit::Reset => return Ok(()),
            _ if machine.is_stopping() => return Ok(()),
            Exit::Panicked => return Err(machine.error("the guest's kernel panicked")),
            Exit::Killed => return Err(machine.error("the machine was killed")),
            Exit::Failed(why) => return Err(machine.error(format!("the machine died: {why}"))),
        }
    }
}

/// A machine from one boot to the next.
struct Boot {
    guest: Arc<VirtualMachine>,
    /// Waits for the monitor, and drops all of it then.
    exit: JoinHandle<Result<Exit, ProviderError>>,
    console: Arc<ConsoleHub>,
    /// What goes on beside the monitor until the boot is over.
    beside: [JoinHandle<()>; 2],
    _private: Vec<Private>,
}

impl Boot {
    async fn begin(owner: &Owner<'_>, folders: &Arc<Folders>) -> Result<Self, ProviderError> {
        let (dir, spec, machine) = (owner.dir.clone(), owner.spec.clone(), owner.machine.clone());
        let folders = folders.clone();
        let faults = FaultListener::new(move |fault| machine.warn(fault));
        let (running, ends, warnings) = blocking(move || {
            let Assembly { config, ends, warnings } = assemble(&dir, &spec, &folders, faults)?;
            let running = Vm::build(config).and_then(Vm::start).map_err(failure::vm)?;
            Ok((running, ends, warnings))
        })
        .await?;
        for warning in &warnings {
            owner.machine.warn(warning);
        }
        let Ends { console, nat, private } = ends;
        let handle = running.handle();
        // What has been printed meanwhile waits in the cable.
        let watch = Arc::new(ConsoleWatch::new(owner.machine.clone(), handle.clone()));
        let console = ConsoleHub::start(console, &owner.dir.console_log(), watch)
            .map_err(refused("keep the console"))?;
        let console = owner.server.lend(console);
        let beside = [
            tokio::spawn(stir(nat.heard(), owner.machine.clone())),
            tokio::spawn(press_again(handle.clone(), owner.machine.clone())),
        ];
        let exit = tokio::spawn(blocking(move || Ok(running.wait())));
        let guest = Arc::new(VirtualMachine { handle, nat });
        Ok(Self { guest, exit, console, beside, _private: private })
    }

    /// Returns when nothing of the monitor runs any more.
    async fn end(&mut self, owner: &Owner<'_>, terminate: &mut Signal) -> Result<Exit, ProviderError> {
        let lost = |error| ProviderError::Internal { what: format!("wait for the machine: {error}") };
        let exit = tokio::select! {
            exit = &mut self.exit => exit,
            _ = terminate.recv() => {
                owner.machine.set_stopping();
                let _ = self.guest.ask_to_stop();
                match timeout(owner.spec.graceful_timeout, &mut self.exit).await {
                    Ok(exit) => exit,
                    Err(_) => {
                        self.guest.handle.kill();
                        (&mut self.exit).await
                    }
                }
            }
        };
        // The console's end is in the error that tells of a panic.
        let _ = timeout(LAST_LINES, self.console.ended()).await;
        exit.map_err(lost)?
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        self.beside.iter().for_each(JoinHandle::abort);
    }
}

/// Stirs the machine whenever it begins something on its network.
async fn stir(mut heard: watch::Receiver<u64>, machine: Arc<Machine>) {
    while heard.changed().await.is_ok() {
        machine.stir();
    }
}

/// Presses the power button of a machine that is to end again whenever it stirs: a guest that is still booting when it is
/// asked has nobody yet who would hear it. One that shuts down already takes no notice.
async fn press_again(handle: Handle, machine: Arc<Machine>) {
    let mut stirs = machine.stirs();
    while stirs.changed().await.is_ok() {
        if machine.is_stopping() {
            handle.press_power_button();
        }
    }
}

fn refused(doing: &'static str) -> impl FnOnce(io::Error) -> ProviderError {
    move |error| failure::io(doing, &error)
}
