//! User namespaces: which ids a machine's users have on the host, and how to run a program as root of them.
//!
//! Every machine of a user lives on one id map, [`IdMap::of_host`], so that box trees unpacked once serve all
//! of them. [`command`] runs our own binary as root of that map: for work on files that belong to its ids.

mod command;
mod entry;
mod error;
mod map;
mod probe;
mod subid;
mod tools;

pub use command::{ENTRY, command};
pub use entry::entry;
pub use error::{IdMapError, Side};
pub use map::{Extent, HostKind, IdMap, SHARED_ID, SIZE};
pub use probe::{Facts, probe};
pub use tools::MapTools;
