//! KVM: the machine's memory, vCPUs and interrupt lines in the kernel.
