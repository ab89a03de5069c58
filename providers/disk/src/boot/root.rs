//! The kernel's `root=`.

use super::{Choice, Volumes};
use crate::files::Volume;

/// The command line of `choice` with a `root=` that leads to the root file system: the one it has, or else the one
/// that was found. Without an initial RAM file system the kernel knows partitions only, so `UUID=` and `LABEL=` become
/// `PARTUUID=`; and so does `/dev/sda1`, which is called otherwise here.
pub fn complete(volumes: &Volumes, root: Option<usize>, choice: &Choice) -> String {
    let asked = choice.cmdline.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("root="));
    let knows_all = !choice.initrds.is_empty();
    match (asked, root) {
        (None, Some(root)) => {
            let own = format!("root={}", name(&volumes.0[root], knows_all));
            let rest = choice.cmdline.trim();
            let mode = if rest.split_ascii_whitespace().any(|word| matches!(word, "ro" | "rw")) {
                ""
            } else {
                " ro"
            };
            format!("{own}{mode} {rest}").trim_end().to_owned()
        }
        (Some(asked), _) if is_foreign(asked) || (!knows_all && is_for_an_init(asked)) => {
            match of(volumes, asked) {
                Some(volume) => {
                    let own = format!("root={}", name(&volumes.0[volume], knows_all));
                    choice.cmdline.replace(&format!("root={asked}"), &own)
                }
                None => choice.cmdline.clone(),
            }
        }
        _ => choice.cmdline.clone(),
    }
}

/// Whether it is what disks are called on other hardware: here they are `/dev/vda`.
fn is_foreign(asked: &str) -> bool {
    ["/dev/sd", "/dev/hd", "/dev/xvd"].iter().any(|disk| asked.starts_with(disk))
}

/// Whether only an initial RAM file system finds it.
fn is_for_an_init(asked: &str) -> bool {
    asked.starts_with("UUID=") || asked.starts_with("LABEL=")
}

/// The volume that `root=` names.
pub fn of(volumes: &Volumes, asked: &str) -> Option<usize> {
    let quoted = |value: &str| value.trim_matches('"').to_owned();
    if let Some(uuid) = asked.strip_prefix("UUID=") {
        return volumes.by_uuid(&quoted(uuid));
    }
    if let Some(label) = asked.strip_prefix("LABEL=") {
        return volumes.by_label(&quoted(label));
    }
    if let Some(id) = asked.strip_prefix("PARTUUID=") {
        return volumes.by_partition_id(&quoted(id));
    }
    if let Some(label) = asked.strip_prefix("PARTLABEL=") {
        return volumes.find(|volume| volume.partition.label.as_deref() == Some(label));
    }
    // `/dev/vda1`, `/dev/sda`: of the only disk there is.
    let device =
        ["/dev/vd", "/dev/sd", "/dev/hd", "/dev/xvd"].iter().find_map(|start| asked.strip_prefix(start))?;
    let digits = device.trim_start_matches(|c: char| c.is_ascii_lowercase());
    volumes.by_number(if digits.is_empty() { 0 } else { digits.parse().ok()? })
}

fn name(volume: &Volume, knows_all: bool) -> String {
    match (&volume.partition.id, &volume.uuid) {
        (Some(id), _) => format!("PARTUUID={id}"),
        (None, Some(uuid)) if knows_all => format!("UUID={uuid}"),
        _ => "/dev/vda".to_owned(),
    }
}
