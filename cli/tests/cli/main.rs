//! The command line as a user runs it, without any machine.

mod boxes;
mod offline;
mod support;
mod terminal;
