//! The texts that Posada writes from templates, and their one renderer. A variable that a template names and its
//! input lacks is an error, never an empty string.

mod renderer;
mod seed;
mod ssh_config;
mod starter;

pub use renderer::TemplateError;
pub use seed::{Addressing, Changes, Nic, Seed, SeedFolder, SeedInput, Settings, render_seed, settings};
pub use ssh_config::{SshHost, render_ssh_config};
pub use starter::{Shape, StarterInput, render_starter};
