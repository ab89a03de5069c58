//! What a wrong word in a Vmfile may have been meant to be.

use crate::similar::nearest;

/// `did you mean `x`?`, or else what there is.
pub(super) fn did_you_mean(word: &str, candidates: &[&str], what: &str) -> Option<String> {
    match nearest(word, candidates.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if candidates.is_empty() => None,
        None => Some(format!("{what}: {}", quoted(candidates))),
    }
}

/// What a key of other tools is called here.
pub(super) fn meant(key: &str) -> Option<&'static str> {
    Some(match key.to_lowercase().as_str() {
        "image" | "base" | "vm_box" => "box",
        "cpu_count" | "cores" | "vcpu" | "vcpus" => "cpus",
        "ram" | "mem" | "mem_limit" => "memory",
        "disk_size" | "disksize" => "disk",
        "ports" | "forwarded_ports" | "forwarded_port" | "port_forwards" | "network" => "networks",
        "mounts" | "volumes" | "shares" | "shared_folders" | "synced_folder" | "folders" => "synced_folders",
        "environment" | "envs" => "env",
        "provisioners" | "setup" | "scripts" | "run" => "provision",
        "services" | "vms" | "nodes" | "hosts" | "instances" => "machines",
        "backend" | "vmtype" | "driver" | "hypervisor" => "provider",
        "user" | "login" => "username",
        "script" | "cmd" => "inline",
        "file" => "path",
        "guest_port" | "container_port" => "guest",
        "host_port" => "host",
        "dest" | "mountpoint" | "guest_path" => "target",
        "host_path" => "source",
        _ => return None,
    })
}

/// What a `type` of other tools is called here.
pub(super) fn meant_kind(kind: &str) -> Option<&'static str> {
    Some(match kind.to_lowercase().as_str() {
        "public" | "public_network" | "bridge" | "lan" => "bridged",
        "private_network" | "internal" | "host_only" => "private",
        "forwarded_port" | "port" => "forward",
        "copy" | "upload" => "file",
        "script" | "inline" | "bash" | "sh" => "shell",
        _ => return None,
    })
}

fn quoted(words: &[&str]) -> String {
    const MOST: usize = 24;
    let listed: Vec<String> = words.iter().take(MOST).map(|word| format!("`{word}`")).collect();
    let more = if words.len() > MOST { " …" } else { "" };
    listed.join(", ") + more
}
