//! What every command needs: where things are, and how to talk to the user.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;

use etcetera::BaseStrategy as _;
use posada_box_catalog::Remotes;
use posada_orchestrator::{Host, Project};
use tokio::runtime::{Builder, Runtime};

use crate::args::GlobalArgs;
use crate::failure::{CliError, Failure, Result};
use crate::printer::Printer;

/// How this binary is executed again, also after it was moved or replaced.
pub const OWN_EXE: &str = "/proc/self/exe";

/// What every command needs.
pub struct Context {
    /// Writes everything.
    pub printer: Printer,
    /// Where Posada keeps what it has, and how it is run again.
    pub host: Host,
    /// The Vmfile, where it was named outright.
    vmfile: Option<PathBuf>,
    /// The user's home directory.
    pub home_dir: Option<PathBuf>,
    runtime: OnceCell<Runtime>,
}

impl Context {
    /// Looks up the environment.
    ///
    /// # Errors
    /// [`CliError::Host`] where there is neither `POSADA_HOME` nor a home directory.
    pub fn new(global: &GlobalArgs, printer: Printer, command: String) -> Result<Self> {
        let home_dir = etcetera::home_dir().ok();
        let home = match &global.home {
            Some(home) => std::path::absolute(home)
                .map_err(|source| CliError::host(format!("cannot use `{}`", home.display()), source))?,
            None => {
                let strategy = etcetera::choose_base_strategy().map_err(|_| CliError::Host {
                    what: "there is no home directory".to_owned(),
                    hint: Some(
                        "set POSADA_HOME to the directory where Posada may keep its machines".to_owned(),
                    ),
                    source: None,
                })?;
                strategy.data_dir().join("posada")
            }
        };
        // What fetches boxes looks them up: a fault in them is no reason not to halt a machine.
        let remotes = Remotes::default();
        let host = Host { home, exe: PathBuf::from(OWN_EXE), command, remotes };
        Ok(Self { printer, host, vmfile: global.vmfile.clone(), home_dir, runtime: OnceCell::new() })
    }

    /// The project the user stands in, or the one named by `--vmfile`.
    ///
    /// # Errors
    /// Those of [`Project::find`].
    pub fn project(&self) -> Result<Project> {
        match &self.vmfile {
            Some(vmfile) => Ok(Project::of_file(vmfile)?),
            None => Ok(Project::find(&self.current_dir()?)?),
        }
    }

    /// The directory the user stands in.
    ///
    /// # Errors
    /// [`CliError::Host`] where it is gone.
    pub fn current_dir(&self) -> Result<PathBuf> {
        std::env::current_dir().map_err(|source| {
            Failure::from(CliError::Host {
                what: "the current directory cannot be read".to_owned(),
                hint: Some("change to a directory that exists".to_owned()),
                source: Some(source),
            })
        })
    }

    /// Runs `work` to its end. The runtime is only made here, as most commands do without.
    ///
    /// # Errors
    /// [`CliError::Internal`] where no runtime can be made.
    pub fn block_on<F: Future>(&self, work: F) -> Result<F::Output> {
        let runtime = match self.runtime.get() {
            Some(runtime) => runtime,
            None => {
                let made = Builder::new_multi_thread()
                    .enable_all()
                    .build()
                    .map_err(CliError::internal("cannot start the event loop"))?;
                self.runtime.get_or_init(|| made)
            }
        };
        Ok(runtime.block_on(work))
    }

    /// Runs `work`, a short look at the state of things, on this thread alone.
    ///
    /// # Errors
    /// [`CliError::Internal`] where no runtime can be made.
    pub fn block_on_here<F: Future>(&self, work: F) -> Result<F::Output> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(CliError::internal("cannot start the event loop"))?;
        Ok(runtime.block_on(work))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // What still runs on blocking threads reports to nobody: do not wait for it.
            runtime.shutdown_background();
        }
    }
}

/// Looks up a variable of the environment; one that is not text counts as not set.
#[must_use]
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `--param name=value`, as often as wanted.
///
/// # Errors
/// [`CliError::Usage`] where a name is given twice.
pub fn params(pairs: &[(String, String)]) -> Result<BTreeMap<String, String>> {
    let mut params = BTreeMap::new();
    for (name, value) in pairs {
        if params.insert(name.clone(), value.clone()).is_some() {
            return Err(CliError::usage(format!("`--param {name}` is given twice"), "give it once").into());
        }
    }
    Ok(params)
}
