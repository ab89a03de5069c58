//! The command line as a user runs it, without any machine.

mod offline;
mod support;
mod terminal;
