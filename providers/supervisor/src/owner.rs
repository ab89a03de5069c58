//! Being the supervisor of one machine: from the first instruction to the last.

use std::io::{self, Write};
use std::sync::Arc;

use posada_provider_api::{MachineDir, MachineSpec, ProviderError};
use tokio::net::UnixListener;

use crate::forwarding;
use crate::machine::{Machine, Stage};
use crate::server::Server;
use crate::spawn;

/// What a backend is given to run its machine with.
pub struct Owner<'a> {
    /// The machine's directory.
    pub dir: &'a MachineDir,
    /// What it is to be.
    pub spec: &'a MachineSpec,
    /// Where it stands, for all to see.
    pub machine: Arc<Machine>,
    /// Who answers for it.
    pub server: Arc<Server>,
}

/// Becomes the supervisor of the machine in `dir`. Its forwards are bound; `confine` then takes from the process what
/// its machine has no use for, while there is one thread; `live` runs the machine to
/// its end, `undo` removes what is left of it then, whatever came of it. Returns when clients have their answers. To be called once, first thing in a process that
/// [`spawn::start`] started.
///
/// # Errors
/// Where the process was not started so, or the machine's description cannot be read.
pub fn own(
    dir: &MachineDir,
    confine: impl FnOnce(&MachineSpec) -> Result<(), ProviderError>,
    live: impl AsyncFnOnce(Owner<'_>) -> Result<(), ProviderError>,
    undo: impl FnOnce() -> Result<(), ProviderError>,
) -> io::Result<()> {
    let inherited = spawn::inherit()?;
    raise_descriptor_limit();
    let spec: MachineSpec = serde_json::from_slice(&fs_err::read(dir.spec())?)?;
    call_ourselves(&spec);
    // Who holds a taken port can be seen only before.
    let forwards = forwarding::bind(dir, &spec);
    let confined = confine(&spec);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        inherited.listener.set_nonblocking(true)?;
        let machine = Machine::starting();
        let server = Server::start(machine.clone(), UnixListener::from_std(inherited.listener)?);
        let owner = Owner { dir, spec: &spec, machine: machine.clone(), server: server.clone() };
        let outcome = async {
            confined?;
            let _serving = forwards?.serve(&machine)?;
            live(owner).await
        }
        .await;
        if let Err(error) = &outcome {
            log(error);
        }
        machine.enter(Stage::Ending);
        let undone = undo();
        machine.enter(Stage::Ended(outcome.and(undone).err().map(Into::into)));
        server.finish().await;
        Ok(())
    })
    // `inherited.alive` is released by the end of the process, when nothing is left to be seen of the machine.
}

/// Writes a line to the supervisor's log file, which is its standard error.
pub fn log(line: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What tools show for this process: executed as `/proc/self/exe`, it would be called `exe`. Whoever finds a port
/// taken is told by this name who has it.
fn call_ourselves(spec: &MachineSpec) {
    // The kernel keeps 15 bytes; names of machines are ASCII and hold no zero byte.
    let name: String = format!("posada:{}", spec.name).chars().take(15).collect();
    if let Ok(name) = std::ffi::CString::new(name) {
        // Losing the name costs nothing but the name.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Every connection through the NAT and the forwards takes descriptors; the soft limit is one for programs that
/// use select(2).
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, fewer connections at once is all that comes of it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
