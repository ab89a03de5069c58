//! The only memory there is: one directory a machine under `$POSADA_HOME/machines`, files written whole, locks
//! that die with their holder.

mod files;
mod lock;
mod machines;
mod record;

pub use lock::{Holder, MachineLock};
pub use machines::{Entry, Machines};
pub use record::{MachineRecord, ProjectRecord};

pub(crate) use files::{read_json, remove_file, write_json};
pub(crate) use lock::Attempt;
pub(crate) use machines::{NewMachine, make_private_dir};
