//! CPUID: what KVM can give, with a topology of one package, a core each processor, one thread a core
//! (Intel SDM, volume 2, CPUID; AMD APM, volume 3, appendix E; Linux, Documentation/virt/kvm/x86/cpuid.rst).

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// The processors of a machine.
#[derive(Debug, Clone)]
pub struct CpuProfile {
    common: Vec<kvm_cpuid_entry2>,
    count: u8,
}

/// Leaf 1, ECX.
mod features_ecx {
    pub const MONITOR: u32 = 1 << 3;
    pub const VMX: u32 = 1 << 5;
    pub const X2APIC: u32 = 1 << 21;
    pub const TSC_DEADLINE: u32 = 1 << 24;
    /// Mirrors CR4.OSXSAVE; KVM keeps it.
    pub const OSXSAVE: u32 = 1 << 27;
    pub const HYPERVISOR: u32 = 1 << 31;
}
/// Leaf 1, EDX: the processor count in EBX is valid.
const HTT: u32 = 1 << 28;
/// Leaf 6, EAX: the local timer goes on in deep sleep.
const ARAT: u32 = 1 << 2;
/// Leaf 0x8000_0001, ECX: cores are told by the count of logical processors.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaf 0x8000_0001, ECX.
const SVM: u32 = 1 << 2;
/// Leaf 0x4000_0001, EAX: the paravirtual clock never goes back between processors.
const CLOCKSOURCE_STABLE: u32 = 1 << 24;

impl CpuProfile {
    /// `count` processors (at least one) that have what `supported` says, and a TSC deadline timer if `deadline`.
    #[must_use]
    pub fn new(supported: &[kvm_cpuid_entry2], count: u8, deadline: bool) -> Self {
        let mut common: Vec<_> =
            supported.iter().copied().filter(|leaf| !is_dropped(leaf.function)).collect();
        let topology = [(0, 0x100, 0, 1), (1, 0x201, package_shift(count), u32::from(count)), (2, 2, 0, 0)];
        for (index, ecx, eax, ebx) in topology {
            let flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
            common.push(kvm_cpuid_entry2 {
                function: 0xb,
                index,
                flags,
                eax,
                ebx,
                ecx,
                ..Default::default()
            });
        }
        for leaf in &mut common {
            adapt(leaf, count, deadline);
        }
        Self { common, count }
    }

    /// How many processors there are.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.count
    }

    /// Width of physical addresses, bits.
    #[must_use]
    pub fn address_bits(&self) -> u8 {
        bits_of(&self.common)
    }

    /// What processor `index` says of itself. Its APIC id is `index`.
    #[must_use]
    pub fn leaves(&self, index: u8) -> Vec<kvm_cpuid_entry2> {
        let id = u32::from(index);
        let mut leaves = self.common.clone();
        for leaf in &mut leaves {
            match leaf.function {
                1 => leaf.ebx = leaf.ebx & 0x00ff_ffff | id << 24,
                0xb => leaf.edx = id,
                0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (id, id, 0),
                _ => {}
            }
        }
        leaves
    }
}

/// Width of the physical addresses of a guest on this host, bits: what the CPUID that KVM supports says.
#[must_use]
pub fn address_bits(supported: &CpuId) -> u8 {
    bits_of(supported.as_slice())
}

fn bits_of(leaves: &[kvm_cpuid_entry2]) -> u8 {
    // Processors without the leaf have 36 bits (Intel SDM, volume 3, section 4.1.4).
    leaves.iter().find(|leaf| leaf.function == 0x8000_0008).map_or(36, |leaf| leaf.eax as u8)
}

/// How many bits of the APIC id tell the cores of a package apart.
fn package_shift(count: u8) -> u32 {
    u32::from(count).next_power_of_two().trailing_zeros()
}

/// Whether a leaf is not for guests: the topology of the host, which is replaced or speaks of what is not there, and
/// nested virtualization.
fn is_dropped(function: u32) -> bool {
    matches!(function, 0xb | 0x1f | 0x8000_000a | 0x8000_0026)
}

fn adapt(leaf: &mut kvm_cpuid_entry2, count: u8, deadline: bool) {
    let several = count > 1;
    let last = u32::from(count) - 1;
    match leaf.function {
        1 => {
            use features_ecx::{HYPERVISOR, MONITOR, OSXSAVE, TSC_DEADLINE, VMX, X2APIC};
            leaf.ecx = leaf.ecx & !(MONITOR | VMX | OSXSAVE | TSC_DEADLINE) | HYPERVISOR | X2APIC;
            leaf.ecx |= if deadline { TSC_DEADLINE } else { 0 };
            let logical = 1 << package_shift(count);
            leaf.ebx = leaf.ebx & 0xff00_ffff | logical << 16;
            leaf.edx = leaf.edx & !HTT | if several { HTT } else { 0 };
        }
        4 | 0x8000_001d if leaf.eax & 0x1f != 0 => {
            // Caches of the third level are everybody's, those nearer a core's own.
            let sharers = if leaf.eax >> 5 & 7 >= 3 { last } else { 0 };
            leaf.eax = leaf.eax & 0x3fff | sharers << 14;
            if leaf.function == 4 {
                leaf.eax |= ((1 << package_shift(count)) - 1) << 26;
            }
        }
        6 => leaf.eax |= ARAT,
        0x4000_0001 => leaf.eax |= CLOCKSOURCE_STABLE,
        0x8000_0001 => {
            leaf.ecx = leaf.ecx & !(SVM | CMP_LEGACY) | if several { CMP_LEGACY } else { 0 };
        }
        0x8000_0008 => leaf.ecx = leaf.ecx & 0xffff_0000 | package_shift(count) << 12 | last,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, eax: u32, ebx: u32, ecx: u32, edx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..Default::default() }
    }

    fn host() -> Vec<kvm_cpuid_entry2> {
        vec![
            leaf(1, 0x830f10, 0x0710_0800, u32::MAX, u32::MAX),
            leaf(4, 0xfc00_c121, 0, 0, 0),
            leaf(4, 0xfc1f_c163, 0, 0, 0),
            leaf(4, 0, 0, 0, 0),
            leaf(0xb, 1, 2, 0x100, 7),
            leaf(0x1f, 1, 2, 0x100, 7),
            leaf(0x4000_0001, 0x2fb, 0, 0, 0),
            leaf(0x8000_0001, 0, 0, u32::MAX, 0),
            leaf(0x8000_0008, 0x3030, 0, 0x7fff_707f, 0),
            leaf(0x8000_000a, 1, 8, 0, 0xff),
            leaf(0x8000_001e, 7, 0x103, 0x300, 0),
        ]
    }

    fn find(leaves: &[kvm_cpuid_entry2], function: u32) -> Vec<kvm_cpuid_entry2> {
        leaves.iter().copied().filter(|leaf| leaf.function == function).collect()
    }

    #[test]
    fn processors_differ_in_their_ids_alone() {
        let profile = CpuProfile::new(&host(), 6, true);
        for index in [0u8, 5] {
            let leaves = profile.leaves(index);
            let id = u32::from(index);
            assert_eq!(find(&leaves, 1)[0].ebx, id << 24 | 8 << 16 | 0x0800);
            assert!(find(&leaves, 0xb).iter().all(|leaf| leaf.edx == id));
            let extended = find(&leaves, 0x8000_001e)[0];
            assert_eq!((extended.eax, extended.ebx, extended.ecx), (id, id, 0));
        }
    }

    #[test]
    fn the_topology_is_the_machines_own() {
        let leaves = CpuProfile::new(&host(), 6, true).leaves(0);
        let levels: Vec<_> = find(&leaves, 0xb).iter().map(|l| (l.index, l.eax, l.ebx, l.ecx)).collect();
        assert_eq!(levels, [(0, 0, 1, 0x100), (1, 3, 6, 0x201), (2, 0, 0, 2)]);
        let caches: Vec<_> = find(&leaves, 4).iter().map(|l| l.eax).collect();
        assert_eq!(caches, [7 << 26 | 0x121, 7 << 26 | 5 << 14 | 0x163, 0]);
        assert_eq!(find(&leaves, 0x8000_0008)[0].ecx & 0xffff, 0x3005);
        assert!(find(&leaves, 0x1f).is_empty() && find(&leaves, 0x8000_0026).is_empty());
        let single = CpuProfile::new(&host(), 1, true).leaves(0);
        assert_eq!(find(&single, 1)[0].edx & HTT, 0);
        assert_eq!(find(&single, 0xb)[1].eax, 0);
        assert_eq!(find(&single, 0x8000_0008)[0].ecx & 0xffff, 0);
    }

    #[test]
    fn guests_see_a_hypervisor_and_no_virtualization_of_their_own() {
        let leaves = CpuProfile::new(&host(), 2, false).leaves(1);
        let features = find(&leaves, 1)[0].ecx;
        assert_eq!(features & (features_ecx::VMX | features_ecx::TSC_DEADLINE | features_ecx::MONITOR), 0);
        assert_ne!(features & features_ecx::HYPERVISOR, 0);
        assert_eq!(find(&leaves, 0x8000_0001)[0].ecx & SVM, 0);
        assert!(find(&leaves, 0x8000_000a).is_empty());
        assert_eq!(find(&leaves, 0x4000_0001)[0].eax, 0x2fb | CLOCKSOURCE_STABLE);
        let deadline = CpuProfile::new(&host(), 2, true).leaves(0);
        assert_ne!(find(&deadline, 1)[0].ecx & features_ecx::TSC_DEADLINE, 0);
    }

    #[test]
    fn addresses_are_as_wide_as_kvm_says() {
        assert_eq!(CpuProfile::new(&host(), 1, true).address_bits(), 0x30);
        assert_eq!(CpuProfile::new(&[], 1, true).address_bits(), 36);
    }
}
