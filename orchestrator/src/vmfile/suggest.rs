//! "Did you mean".

/// The most candidates that are looked at; a file that has more is no one's hand-writing.
const MAX_CANDIDATES: usize = 256;

/// The candidate that `word` is most likely meant to be, if any is near.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .map(|candidate| (strsim::jaro_winkler(&folded, &fold(candidate)), candidate))
        .filter(|(score, candidate)| {
            *score > 0.84
                || strsim::damerau_levenshtein(&folded, &fold(candidate)) <= candidate.len().min(6) / 3
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

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

/// Spelling that people do not tell apart: case, `-` for `_`, a plural's `s`.
fn fold(word: &str) -> String {
    let word = word.to_lowercase().replace('-', "_");
    word.strip_suffix('s').unwrap_or(&word).chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let keys = ["box", "box_version", "cpus", "memory", "networks", "synced_folders", "depends_on"];
        for (typed, meant) in [
            ("cpu", "cpus"),
            ("CPUS", "cpus"),
            ("memroy", "memory"),
            ("network", "networks"),
            ("synced-folder", "synced_folders"),
            ("depend_on", "depends_on"),
            ("bx", "box"),
            ("boxversion", "box_version"),
        ] {
            assert_eq!(nearest(typed, keys), Some(meant), "{typed}");
        }
        for typed in ["colour", "x", "image", ""] {
            assert_eq!(nearest(typed, keys), None, "{typed}");
        }
    }
}
