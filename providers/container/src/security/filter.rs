//! The system call filter: a list of calls that no container needs and that reach parts of the kernel which
//! know nothing of namespaces, or have a record of holes. See seccomp(2).
//!
//! A list of what is denied, as LXC and Docker's machines have, rather than of what is allowed: new calls that
//! libraries probe for then work. The program is put together here and loaded without `no_new_privs`, which
//! seccompiler always sets (sudo would not work) together with a kill of all 32-bit programs.

use std::io;

/// `struct sock_filter`.
type Instruction = libc::sock_filter;

/// The answer to a denied call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Not permitted.
    Permission,
    /// There is no such call: programs then take another way.
    Missing,
}

impl Answer {
    fn errno(self) -> u32 {
        match self {
            Self::Permission => libc::EPERM.unsigned_abs(),
            Self::Missing => libc::ENOSYS.unsigned_abs(),
        }
    }
}

use Answer::{Missing, Permission};

/// What is denied on the computer's own instruction set.
#[rustfmt::skip]
fn denied() -> Vec<(libc::c_long, Answer)> {
    let mut denied = vec![
        // Another kernel in place of this one.
        (libc::SYS_kexec_load, Permission),
        (libc::SYS_kexec_file_load, Permission),
        // Kernel modules.
        (libc::SYS_init_module, Permission),
        (libc::SYS_finit_module, Permission),
        (libc::SYS_delete_module, Permission),
        // Opens files by number, past any mount or directory.
        (libc::SYS_open_by_handle_at, Permission),
        // The host's clock.
        (libc::SYS_settimeofday, Permission),
        (libc::SYS_clock_settime, Permission),
        (libc::SYS_clock_adjtime, Permission),
        (libc::SYS_adjtimex, Permission),
        // The host's swap and accounting.
        (libc::SYS_swapon, Permission),
        (libc::SYS_swapoff, Permission),
        (libc::SYS_acct, Permission),
        // The kernel's log.
        (libc::SYS_syslog, Permission),
        // Programs in the kernel and its counters: what is open to user namespaces there has a long record.
        (libc::SYS_bpf, Permission),
        (libc::SYS_perf_event_open, Permission),
        // Holds the kernel in the middle of an access: the tool of many exploits.
        (libc::SYS_userfaultfd, Permission),
        // Keys: quotas are per host user; container engines inside go on without.
        (libc::SYS_add_key, Missing),
        (libc::SYS_request_key, Missing),
        (libc::SYS_keyctl, Missing),
        // Quotas of the host's file systems.
        (libc::SYS_quotactl, Permission),
        (libc::SYS_quotactl_fd, Permission),
        // Placement of other processes' memory.
        (libc::SYS_move_pages, Permission),
        // Obsolete.
        (libc::SYS_nfsservctl, Missing),
        (libc::SYS_lookup_dcookie, Missing),
    ];
    #[cfg(target_arch = "x86_64")]
    denied.extend([
        // I/O ports.
        (libc::SYS_iopl, Permission),
        (libc::SYS_ioperm, Permission),
        // Obsolete.
        (libc::SYS__sysctl, Missing),
        (libc::SYS_uselib, Missing),
        (libc::SYS_ustat, Missing),
    ]);
    denied
}

/// The same for 32-bit programs, whose calls have other numbers (`arch/x86/entry/syscalls/syscall_32.tbl`).
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const DENIED_32: [(u32, Answer); 41] = [
    (283, Permission), // kexec_load
    (128, Permission), // init_module
    (350, Permission), // finit_module
    (129, Permission), // delete_module
    (342, Permission), // open_by_handle_at
    (25, Permission),  // stime
    (79, Permission),  // settimeofday
    (264, Permission), // clock_settime
    (404, Permission), // clock_settime64
    (343, Permission), // clock_adjtime
    (405, Permission), // clock_adjtime64
    (124, Permission), // adjtimex
    (87, Permission),  // swapon
    (115, Permission), // swapoff
    (51, Permission),  // acct
    (103, Permission), // syslog
    (357, Permission), // bpf
    (336, Permission), // perf_event_open
    (374, Permission), // userfaultfd
    (286, Missing),    // add_key
    (287, Missing),    // request_key
    (288, Missing),    // keyctl
    (131, Permission), // quotactl
    (443, Permission), // quotactl_fd
    (317, Permission), // move_pages
    (169, Missing),    // nfsservctl
    (253, Missing),    // lookup_dcookie
    (110, Permission), // iopl
    (101, Permission), // ioperm
    (149, Missing),    // _sysctl
    (86, Missing),     // uselib
    (62, Missing),     // ustat
    (127, Missing),    // create_module
    (130, Missing),    // get_kernel_syms
    (167, Missing),    // query_module
    (113, Missing),    // vm86old
    (166, Missing),    // vm86
    (135, Missing),    // sysfs
    (137, Missing),    // afs_syscall
    (188, Missing),    // getpmsg
    (189, Missing),    // putpmsg
];

/// `AUDIT_ARCH_…` of `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
#[cfg(target_arch = "x86_64")]
const I386: u32 = 0x4000_0003;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;
#[cfg(target_arch = "aarch64")]
const ARM: u32 = 0x4000_0028;

/// Calls of the x32 kind carry this bit; Debian's kernels refuse them anyway.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Places in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn answer(answer: Answer) -> Instruction {
    instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | answer.errno())
}

/// Passes what the list does not name; the call's number is loaded.
fn section(denied: &[(u32, Answer)]) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (number, told) in denied {
        program.push(instruction(IF_EQUAL, 0, 1, *number));
        program.push(answer(*told));
    }
    program.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

/// The whole program: one section for each instruction set that the kernel runs.
fn program() -> Vec<Instruction> {
    let own: Vec<(u32, Answer)> =
        denied().into_iter().filter_map(|(number, told)| Some((u32::try_from(number).ok()?, told))).collect();
    let mut native = vec![instruction(LOAD, 0, 0, NUMBER)];
    #[cfg(target_arch = "x86_64")]
    native.extend([instruction(IF_AT_LEAST, 0, 1, X32), answer(Missing)]);
    native.extend(section(&own));

    let mut program = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE),
        instruction(IF_EQUAL, 1, 0, NATIVE),
        // Sections are longer than a conditional jump reaches.
        instruction(
            (libc::BPF_JMP | libc::BPF_JA) as u16,
            0,
            0,
            u32::try_from(native.len()).unwrap_or(u32::MAX),
        ),
    ];
    program.extend(native);
    #[cfg(target_arch = "x86_64")]
    {
        program.extend([instruction(IF_EQUAL, 1, 0, I386), answer(Missing), instruction(LOAD, 0, 0, NUMBER)]);
        program.extend(section(&DENIED_32));
    }
    #[cfg(target_arch = "aarch64")]
    {
        // 32-bit programs run on few of these computers; user namespaces alone bound them there.
        program.extend([instruction(IF_EQUAL, 1, 0, ARM), answer(Missing)]);
        program.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    }
    program
}

/// Loads the filter for this process and all that come of it.
///
/// # Errors
/// Those of seccomp(2).
pub fn load() -> io::Result<()> {
    let mut program = program();
    let header = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: header and program outlive the call, and the length is the program's.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::from_ref(&header))
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn run(architecture: u32, number: u32) -> u32 {
        let program = program();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                LOAD => loaded = if k == NUMBER { number } else { architecture },
                IF_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                IF_AT_LEAST => at += usize::from(if loaded >= k { jt } else { jf }),
                RETURN => return k,
                _ => at += usize::try_from(k).unwrap(),
            }
        }
    }

    const PERMISSION: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const MISSING: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    #[test]
    fn own_calls_are_sorted_right() {
        let number = |call: libc::c_long| u32::try_from(call).unwrap();
        assert_eq!(run(NATIVE, number(libc::SYS_read)), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(NATIVE, number(libc::SYS_mount)), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(NATIVE, number(libc::SYS_reboot)), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(NATIVE, number(libc::SYS_kexec_load)), PERMISSION);
        assert_eq!(run(NATIVE, number(libc::SYS_keyctl)), MISSING);
        for (call, told) in denied() {
            assert_eq!(run(NATIVE, number(call)), libc::SECCOMP_RET_ERRNO | told.errno(), "{call}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn other_ways_into_the_kernel_are_watched_too() {
        assert_eq!(run(I386, 3), libc::SECCOMP_RET_ALLOW);
        assert_eq!(run(I386, 342), PERMISSION);
        assert_eq!(run(NATIVE, X32 | 1), MISSING);
        assert_eq!(run(0x1234, 1), MISSING);
    }
}
