//! Whether a guest's kernel has given up, seen on its console: a stock kernel says so there before anything else, and
//! then, as distributions set it up, stands still forever.

use std::sync::Arc;

use posada_provider_api::Observer;
use posada_supervisor::Machine;
use posada_vmm::machine::Handle;

/// The last line of a panic (`kernel/panic.c`). It comes after the trace, so that the console's end holds all of it, and
/// only where the kernel is not going to reboot by itself (`panic=` on its command line).
const END: &str = "---[ end Kernel panic - not syncing";

/// Passes the console's lines on, and ends the machine upon the end of a panic.
pub(crate) struct PanicWatch {
    pub(crate) machine: Arc<Machine>,
    pub(crate) handle: Handle,
}

impl Observer for PanicWatch {
    fn phase(&self, text: &str) {
        self.machine.phase(text);
    }

    fn warn(&self, text: &str) {
        self.machine.warn(text);
    }

    fn console(&self, line: &str) {
        self.machine.console(line);
        if is_end(line) {
            self.handle.panicked();
        }
    }
}

/// Whether the kernel itself says in `line` that it has given up: with or without its time stamp, at the line's
/// beginning. What is typed at a login or echoed by a shell stands behind a prompt.
fn is_end(line: &str) -> bool {
    let line = line.trim_start();
    let said = match line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
        Some((time, said)) if time.bytes().all(|b| b.is_ascii_digit() || b" .".contains(&b)) => said,
        _ => line,
    };
    said.starts_with(END)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_own_last_word_counts() {
        let end =
            "---[ end Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0) ]---";
        assert!(is_end(end));
        assert!(is_end(&format!("[    1.234567] {end}")));
        for other in [
            "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs",
            &format!("debian login: {end}"),
            &format!("root@web:~# echo '{end}'"),
            &format!("[FAILED] {end}"),
            "",
        ] {
            assert!(!is_end(other), "{other}");
        }
    }
}
