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
        (Some(asked), Some(root)) => {
            let there = of(volumes, asked);
            let stays = match there {
                Some(_) => !is_foreign(asked) && (knows_all || !is_for_an_init(asked)),
                // An id that is not on this disk is of the one whose files were copied here.
                None => !is_an_id(asked),
            };
            if stays {
                return choice.cmdline.clone();
            }
            let own = format!("root={}", name(&volumes.0[there.unwrap_or(root)], knows_all));
            choice.cmdline.replace(&format!("root={asked}"), &own)
        }
        _ => choice.cmdline.clone(),
    }
}

/// What disks are called on other hardware: here they are `/dev/vda`.
const FOREIGN: [&str; 3] = ["/dev/sd", "/dev/hd", "/dev/xvd"];

/// Whether it is a name that disks have on other hardware.
pub fn is_foreign(source: &str) -> bool {
    FOREIGN.iter().any(|disk| source.starts_with(disk))
}

/// Whether it names a partition or a file system wherever it is.
fn is_an_id(asked: &str) -> bool {
    ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL="].iter().any(|start| asked.starts_with(start))
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
    let device = FOREIGN.iter().chain(&["/dev/vd"]).find_map(|start| asked.strip_prefix(start))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::testing::volumes;
    use crate::boot::{Place, Rule};

    #[test]
    fn root_leads_to_this_disk_whatever_it_was_called() {
        let volumes = volumes(&[&[], &[]]);
        let completed = |cmdline: &str, initrd: bool| {
            let place = Place { volume: 0, path: "/k".to_owned() };
            let choice = Choice {
                kernel: place.clone(),
                initrds: if initrd { vec![place] } else { Vec::new() },
                cmdline: cmdline.to_owned(),
                version: None,
                rule: Rule::Grub,
            };
            complete(&volumes, Some(1), &choice)
        };
        let uuid = "10000000-0000-0000-0000-000000000000";
        for (said, with, without) in [
            ("quiet", "root=PARTUUID=aaaa-1 ro quiet", "root=PARTUUID=aaaa-1 ro quiet"),
            ("root=/dev/sda2 rw", "root=PARTUUID=aaaa-1 rw", "root=PARTUUID=aaaa-1 rw"),
            ("root=/dev/hda1 ro", "root=PARTUUID=aaaa-0 ro", "root=PARTUUID=aaaa-0 ro"),
            ("root=/dev/vda2 ro", "root=/dev/vda2 ro", "root=/dev/vda2 ro"),
            ("root=/dev/mapper/a ro", "root=/dev/mapper/a ro", "root=/dev/mapper/a ro"),
            (&format!("root=UUID={uuid} ro"), &format!("root=UUID={uuid} ro"), "root=PARTUUID=aaaa-1 ro"),
            ("root=UUID=gone ro", "root=PARTUUID=aaaa-1 ro", "root=PARTUUID=aaaa-1 ro"),
            ("ro root=PARTUUID=gone", "ro root=PARTUUID=aaaa-1", "ro root=PARTUUID=aaaa-1"),
        ] {
            assert_eq!(
                (completed(said, true).as_str(), completed(said, false).as_str()),
                (with, without),
                "{said}"
            );
        }
    }
}
