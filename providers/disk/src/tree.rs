//! All files of the system on a disk.

use std::io::Read;

use crate::boot::{Place, Volumes, volume_of};
use crate::files::{Files, Node};
use crate::system::found;
use crate::{DiskError, Image};

/// Largest fstab, bytes.
const MAX_TEXT: u64 = 1 << 20;
/// Most file systems that are mounted into each other.
const MAX_MOUNTS: usize = 64;

/// Hands over each node of the system on `disk`, directories before what is in them: those of its root file system, and then, where its
/// fstab(5) has them mounted, those of others on this disk.
///
/// # Errors
/// Those of [`crate::inspect`], and those of `take`.
pub fn walk<E: From<DiskError>>(
    disk: &Image,
    take: &mut dyn FnMut(&Node, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let (volumes, root) = found(disk)?;
    let fstab = volumes.text(&Place { volume: root, path: "/etc/fstab".to_owned() }, MAX_TEXT)?;
    let mounts = mounts(&fstab.unwrap_or_default(), &volumes, root);
    for (volume, below) in std::iter::once((root, String::new())).chain(mounts) {
        if let Some(tree) = volumes.0[volume].files.as_deref().and_then(Files::all) {
            tree.walk(below.as_bytes(), take)?;
        }
    }
    Ok(())
}

/// What is mounted below the root, from the top down: volumes, and their places without a slash at the beginning.
fn mounts(fstab: &str, volumes: &Volumes, root: usize) -> Vec<(usize, String)> {
    let mut mounts: Vec<(usize, String)> = Vec::new();
    for line in fstab.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(source), Some(point)) = (fields.next(), fields.next()) else { continue };
        let point = point.trim_matches('/');
        let plain = point.split('/').all(|name| !matches!(name, "" | "." | ".." | "none" | "swap"));
        if source.starts_with('#') || !plain || mounts.len() >= MAX_MOUNTS {
            continue;
        }
        let Some(volume) = volume_of(volumes, source).filter(|volume| *volume != root) else { continue };
        if mounts.iter().all(|(other, _)| *other != volume) {
            mounts.push((volume, point.to_owned()));
        }
    }
    mounts.sort_by_key(|(_, point)| point.matches('/').count());
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::testing::volumes;

    #[test]
    fn fstab_says_what_is_mounted_where() {
        let volumes = volumes(&[&[], &[], &[], &[]]);
        let text = "# /etc/fstab\nUUID=00000000-0000-0000-0000-000000000000 / ext4 errors=remount-ro 0 1\n\
            UUID=30000000-0000-0000-0000-000000000000 /var/log ext4 defaults\n/dev/sda2 /var/ ext4 defaults 0 2\n\
            LABEL=label2 none swap sw 0 0\nLABEL=label2 /../etc ext4\nUUID=ffff /gone ext4\n/dev/sda2 /twice ext4\n";
        assert_eq!(mounts(text, &volumes, 0), [(1, "var".to_owned()), (3, "var/log".to_owned())]);
    }
}
