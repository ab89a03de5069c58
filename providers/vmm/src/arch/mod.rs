//! What is particular to a processor architecture: its memory map, how a kernel is started on it, what its processors
//! and tables say. The current architecture's module is re-exported under the name [`current`].

#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[cfg(target_arch = "x86_64")]
pub use x86_64 as current;

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "the virtual machine monitor knows x86_64 only: another architecture needs a module in `arch/`"
);
