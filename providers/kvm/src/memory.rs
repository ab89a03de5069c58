//! How much memory a machine is given, and whether the host has it.

use posada_provider_api::ProviderError;

/// What a machine has where its Vmfile says nothing, bytes.
pub(crate) const DEFAULT: u64 = 1 << 30;
/// What memory comes in, bytes: the large pages of the CPU.
const STEP: u64 = 2 << 20;
/// Less than that boots no distribution's kernel, bytes.
const LEAST: u64 = 64 << 20;

/// The host's memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostMemory {
    total: u64,
    available: u64,
}

impl HostMemory {
    /// Reads it; `None` where the kernel does not tell.
    pub(crate) fn read() -> Option<Self> {
        Self::parse(&fs_err::read_to_string("/proc/meminfo").ok()?)
    }

    /// From `/proc/meminfo` (proc_meminfo(5)).
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        let total = field("MemTotal:")?;
        Some(Self { total, available: field("MemAvailable:").unwrap_or(total) })
    }
}

/// How much memory a machine that asks for `wanted` bytes is given, and a warning where the host may not have it. A
/// machine takes memory as it uses it, so only what can never be there is refused.
///
/// # Errors
/// [`ProviderError::Host`] where it is more than the host has at all, or too little to boot.
pub(crate) fn plan(
    wanted: Option<u64>,
    host: Option<HostMemory>,
) -> Result<(u64, Option<String>), ProviderError> {
    let wanted = wanted.unwrap_or(DEFAULT);
    if wanted < LEAST {
        return Err(ProviderError::Host {
            what: format!("{} MiB of memory are too little for a virtual machine", wanted >> 20),
            remedy: format!("set `memory` to {} MiB or more", LEAST >> 20),
        });
    }
    let memory = wanted.checked_next_multiple_of(STEP).unwrap_or(u64::MAX);
    let Some(host) = host else { return Ok((memory, None)) };
    if memory > host.total {
        return Err(ProviderError::Host {
            what: format!(
                "the machine is to have {} MiB of memory, and the host has {} MiB in all",
                memory >> 20,
                host.total >> 20
            ),
            remedy: "set `memory` lower".to_owned(),
        });
    }
    let warning = (memory > host.available).then(|| {
        format!(
            "the machine may use {} MiB of memory, and only {} MiB of the host's are free now",
            memory >> 20,
            host.available >> 20
        )
    });
    Ok((memory, warning))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: HostMemory = HostMemory { total: 8 << 30, available: 3 << 30 };

    #[test]
    fn meminfo_is_read() {
        let text = "MemTotal:        8388608 kB\nMemFree:  1 kB\nMemAvailable:    3145728 kB\n";
        assert_eq!(HostMemory::parse(text), Some(HOST));
        assert_eq!(HostMemory::parse("MemTotal: lots\n"), None);
        assert!(HostMemory::read().is_some());
    }

    #[test]
    fn what_the_host_never_has_is_refused_and_what_it_lacks_now_is_told() {
        assert_eq!(plan(None, Some(HOST)).unwrap(), (1 << 30, None));
        assert_eq!(plan(Some((1 << 30) + 1), Some(HOST)).unwrap().0, (1 << 30) + STEP);
        let (memory, warning) = plan(Some(4 << 30), Some(HOST)).unwrap();
        assert_eq!(memory, 4 << 30);
        assert!(warning.unwrap().contains("3072 MiB"));
        for wrong in [9 << 30, u64::MAX, 1 << 20] {
            assert!(matches!(plan(Some(wrong), Some(HOST)), Err(ProviderError::Host { .. })), "{wrong}");
        }
        assert_eq!(plan(Some(9 << 30), None).unwrap(), (9 << 30, None));
    }
}
