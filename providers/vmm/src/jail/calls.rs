//! Which system calls a machine's process may not make, and which its threads may.

use std::sync::OnceLock;

use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::worker::ThreadKind;

/// A call, perhaps with one argument bound to a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    number: libc::c_long,
    /// Which argument, the bits that count, and what they must be.
    only: Option<(u8, u64, u64)>,
}

impl Call {
    const fn any(number: libc::c_long) -> Self {
        Self { number, only: None }
    }

    const fn ioctl(request: u64) -> Self {
        Self { number: libc::SYS_ioctl, only: Some((1, 0xffff_ffff, request)) }
    }

    pub(super) fn rule(&self) -> Result<(i64, Option<SeccompRule>), BackendError> {
        let rule = match self.only {
            None => None,
            Some((argument, mask, value)) => {
                let compare = SeccompCmpOp::MaskedEq(mask);
                let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, compare, value)?;
                Some(SeccompRule::new(vec![condition])?)
            }
        };
        Ok((self.number, rule))
    }
}

fn any(numbers: &[libc::c_long]) -> impl Iterator<Item = Call> + '_ {
    numbers.iter().map(|number| Call::any(*number))
}

/// What no part of a machine's process does: become another program, look into or bend others, change mounts or
/// namespaces, reach the kernel itself.
pub(super) fn forbidden() -> Vec<Call> {
    static CALLS: OnceLock<Vec<libc::c_long>> = OnceLock::new();
    let calls = CALLS.get_or_init(|| {
        let mut calls = vec![
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_open_by_handle_at,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_acct,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_quotactl,
            libc::SYS_syslog,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_clock_adjtime,
            libc::SYS_adjtimex,
            libc::SYS_fanotify_init,
            libc::SYS_lookup_dcookie,
            libc::SYS_name_to_handle_at,
            libc::SYS_personality,
            libc::SYS_move_pages,
            libc::SYS_migrate_pages,
            libc::SYS_vhangup,
        ];
        #[cfg(target_arch = "x86_64")]
        calls.extend([libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib]);
        calls
    });
    any(calls).collect()
}

/// What Rust's and C's runtimes need in any thread.
const RUNTIME: [libc::c_long; 45] = [
    libc::SYS_futex,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_tgkill,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_restart_syscall,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_prctl,
    // Reading `/proc/self` and `/sys` for processor counts; Landlock says which files there are.
    libc::SYS_openat,
];

/// The same, where an architecture has older calls.
#[cfg(target_arch = "x86_64")]
const RUNTIME_OLD: [libc::c_long; 3] = [libc::SYS_epoll_wait, libc::SYS_poll, libc::SYS_fstat];
#[cfg(not(target_arch = "x86_64"))]
const RUNTIME_OLD: [libc::c_long; 0] = [];

/// What a vCPU's exits lead to: running it, moving its interrupts and kicks, printing a byte.
const VCPU_IOCTLS: [u64; 10] = [
    0xae80,      // KVM_RUN
    0xaead,      // KVM_KVMCLOCK_CTRL
    0x8090_ae81, // KVM_GET_REGS
    0x4008_ae6a, // KVM_SET_GSI_ROUTING
    0x4020_ae76, // KVM_IRQFD
    0x4040_ae79, // KVM_IOEVENTFD
    0x4008_ae61, // KVM_IRQ_LINE
    0xc008_ae67, // KVM_IRQ_LINE_STATUS
    0x4004_54d0, // TUNSETOFFLOAD
    0x5421,      // FIONBIO
];

const BLOCK: [libc::c_long; 12] = [
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_register,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_lseek,
];

const NET: [libc::c_long; 4] = [libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendto, libc::SYS_recvfrom];

const STREAM: [libc::c_long; 12] = [
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
];

const FS: [libc::c_long; 55] = [
    libc::SYS_openat2,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pread64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_pwrite64,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_syncfs,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_lseek,
    libc::SYS_copy_file_range,
    libc::SYS_getdents64,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_readlinkat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_renameat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fgetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_getxattr,
    libc::SYS_setxattr,
    libc::SYS_listxattr,
    libc::SYS_removexattr,
    libc::SYS_lgetxattr,
    libc::SYS_flock,
    libc::SYS_fchdir,
    libc::SYS_umask,
    libc::SYS_geteuid,
    libc::SYS_getegid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
];

/// What a thread of this kind may do.
pub(super) fn needed(kind: ThreadKind) -> Vec<Call> {
    let mut calls: Vec<Call> = any(&RUNTIME).chain(any(&RUNTIME_OLD)).collect();
    match kind {
        ThreadKind::Vcpu => {
            calls.extend(VCPU_IOCTLS.map(Call::ioctl));
            calls.push(Call::any(libc::SYS_sendto));
        }
        ThreadKind::Block => calls.extend(any(&BLOCK)),
        ThreadKind::Net => calls.extend(any(&NET)),
        ThreadKind::Fs => calls.extend(any(&FS)),
        ThreadKind::Stream => calls.extend(any(&STREAM)),
    }
    calls
}
