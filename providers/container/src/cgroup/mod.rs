//! Control groups: tracking, freezing and killing by version 2; limits by whichever version has the controller.
//!
//! ```text
//! root            <cgroup2>/posada/<id>            tracking, freeze, kill; limits of v2 controllers
//!                 <v1 controller>/posada/<id>      limits of v1 controllers (hybrid hosts)
//! ordinary user   <own cgroup>/posada-<id>         where the own cgroup is delegated
//! ```
//! The container gets the version 2 group as the root of its own cgroup namespace.

mod host;
mod limits;
mod made;
mod plan;

pub use host::Host;
pub use limits::{Controller, Limits};
pub use made::{Group, delegate};
pub use plan::Plan;
