//! Volumes in memory, for tests and fuzz targets.

use super::Volumes;
use crate::files::Volume;
use crate::files::memory::Memory;
use crate::table::Partition;

/// Volumes with these files; the one at place N has the UUID `N0000000-0000-0000-0000-000000000000` and is
/// partition N + 1.
pub fn volumes(files: &[&[(&str, &str)]]) -> Volumes {
    let volume = |(index, files): (usize, &&[(&str, &str)])| Volume {
        partition: Partition {
            number: index as u32 + 1,
            offset: 0,
            length: 0,
            id: Some(format!("aaaa-{index}")),
            label: None,
            kind: None,
        },
        uuid: Some(format!("{index}0000000-0000-0000-0000-000000000000")),
        label: Some(format!("label{index}")),
        kind: "ext4",
        files: Some(Box::new(Memory::new(files))),
    };
    Volumes(files.iter().enumerate().map(volume).collect())
}
