//! What a virtual machine is told at its boots: its name, its network, its keys, its mounts.
