//! What a guest's console tells of a start that will not succeed. A stock kernel that gives up says so there before
//! anything else, and then, as distributions set it up, stands still forever. A systemd that cannot mount what it must
//! asks for a password there, without a network service that anybody could wait for.

use std::sync::{Arc, Mutex, PoisonError};

use posada_provider_api::Observer;
use posada_supervisor::Machine;
use posada_vmm::machine::Handle;

/// The last line of a panic (`kernel/panic.c`). It comes after the trace, so that the console's end holds all of it, and
/// only where the kernel is not going to reboot by itself (`panic=` on its command line).
const END: &str = "---[ end Kernel panic - not syncing";
/// What systemd's emergency.service says first (`systemd-sulogin-shell`).
const EMERGENCY: &str = "You are in emergency mode";
/// What systemd says of a unit that something else of the start has taken along.
const DEPENDENCY: &str = "Dependency failed for ";

/// Passes the console's lines on, ends the machine upon the end of a panic, and tells of emergency mode.
pub(crate) struct ConsoleWatch {
    machine: Arc<Machine>,
    handle: Handle,
    /// The first unit that could not be had, in systemd's words.
    failed: Mutex<Option<String>>,
}

impl ConsoleWatch {
    pub(crate) fn new(machine: Arc<Machine>, handle: Handle) -> Self {
        Self { machine, handle, failed: Mutex::default() }
    }
}

impl Observer for ConsoleWatch {
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
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unit) = failed_dependency(line) {
            failed.get_or_insert(unit);
        } else if line.trim_start().starts_with(EMERGENCY) {
            self.machine.warn(&emergency(failed.take().as_deref()));
        }
    }
}

fn emergency(failed: Option<&str>) -> String {
    let why = failed.map(|unit| format!(": it could not have {unit}")).unwrap_or_default();
    format!(
        "the machine's system is in emergency mode and starts no sshd{why}; `posada log` shows its console, \
         `posada halt` and `up` try again"
    )
}

/// The unit that could not be had, where systemd says in `line` that there is one; without its colours.
fn failed_dependency(line: &str) -> Option<String> {
    let (_, unit) = line.split_once(DEPENDENCY)?;
    let mut plain = String::new();
    let mut parts = unit.split('\x1b');
    plain.push_str(parts.next().unwrap_or_default());
    // An escape sequence of colours ends with an `m` (ECMA-48, section 8.3.117).
    parts.for_each(|part| plain.push_str(part.split_once('m').map_or("", |(_, text)| text)));
    Some(plain.trim().trim_end_matches('.').to_owned())
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
    fn what_systemd_could_not_have_is_told_in_plain_words() {
        let line = "[\x1b[0;1;38;5;185mDEPEND\x1b[0m] Dependency failed for \x1b[0;1;39mboot-efi.mount\x1b[0m - /boot/efi.\r";
        let unit = failed_dependency(line).unwrap();
        assert_eq!(unit, "boot-efi.mount - /boot/efi");
        assert!(emergency(Some(&unit)).contains("could not have boot-efi.mount - /boot/efi;"));
        assert_eq!(failed_dependency("[  OK  ] Started something."), None);
    }

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
