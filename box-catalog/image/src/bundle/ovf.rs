//! The description of a machine (DMTF DSP0243): which file is its first disk.

use std::collections::HashMap;

use roxmltree::Node;

use super::xml::parse;
use crate::Result;
use crate::error::{corrupt, unsupported};

/// Resource types of the CIM schema.
const DISK: &str = "17";

fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.attributes().find(|attribute| attribute.name() == name).map(|attribute| attribute.value())
}

/// The name of the file that holds the disk which comes first on the first controller.
pub fn system_disk(text: &str) -> Result<String> {
    let document = parse(text)?;
    let all = |name: &'static str| document.descendants().filter(move |node| node.tag_name().name() == name);
    let mut drives: Vec<_> = all("Item").chain(all("StorageItem")).filter_map(drive).collect();
    drives.sort();
    // The first of a name counts, as in all other places.
    let disks: HashMap<_, _> = all("Disk")
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .filter_map(|disk| Some((attribute(disk, "diskId")?, attribute(disk, "fileRef"))))
        .collect();
    // A drive may also name a file by itself; a disk without a file is empty.
    let by_drive = drives.iter().find_map(|(.., id)| disks.get(&**id).copied().unwrap_or(Some(id)));
    let file = by_drive.or_else(|| all("Disk").find_map(|disk| attribute(disk, "fileRef")));
    let id = file.ok_or_else(|| corrupt("its description names no disk"))?;
    let file = all("File").find(|file| attribute(*file, "id") == Some(id));
    let file = file.ok_or_else(|| corrupt("its description names a file that it does not list"))?;
    if attribute(file, "chunkSize").is_some() {
        return Err(unsupported("a disk in several chunks"));
    }
    if attribute(file, "compression").is_some_and(|kind| !kind.is_empty() && kind != "identity") {
        return Err(unsupported("a packed file for its disk"));
    }
    attribute(file, "href").map(str::to_owned).ok_or_else(|| corrupt("its description names no file"))
}

/// Where a drive hangs, and the disk or file it names.
fn drive(item: Node<'_, '_>) -> Option<(u64, u64, String)> {
    let child = |name: &str| {
        let found = item.children().find(|child| child.tag_name().name() == name);
        found.and_then(|child| child.text()).map(str::trim)
    };
    if child("ResourceType") != Some(DISK) {
        return None;
    }
    let number = |name| child(name).and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let id = child("HostResource")?.rsplit('/').next()?.to_owned();
    Some((number("Parent"), number("AddressOnParent"), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"<Envelope xmlns:ovf="o" xmlns:rasd="r"><References>
        <File ovf:id="f1" ovf:href="data.vmdk"/><File ovf:id="f2" ovf:href="system.vmdk"/></References>
        <DiskSection><Disk ovf:diskId="d1" ovf:fileRef="f1"/><Disk ovf:diskId="d2" ovf:fileRef="f2"/><Disk ovf:diskId="d3"/></DiskSection>
        <Item><rasd:ResourceType>17</rasd:ResourceType><rasd:Parent>3</rasd:Parent><rasd:AddressOnParent>1</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d1</rasd:HostResource></Item>
        <Item><rasd:ResourceType>17</rasd:ResourceType><rasd:Parent>3</rasd:Parent><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>/disk/d2</rasd:HostResource></Item>
        </Envelope>"#;

    #[test]
    fn the_first_drive_has_the_system() {
        assert_eq!(system_disk(TEXT).unwrap(), "system.vmdk");
        assert_eq!(system_disk(&TEXT.replace("ResourceType>17", "ResourceType>9")).unwrap(), "data.vmdk");
    }

    /// Drives without end that all name the last disk, which is empty, are not each looked for among all disks.
    #[test]
    fn empty_drives_without_end_take_no_time() {
        let drive = "<I><R>17</R><H>/disk/d2</H></I>".replace("I>", "Item>");
        let drive = drive.replace("R>", "ResourceType>").replace("H>", "HostResource>");
        let text = format!(
            "<E><File id='f' href='a'/>{}{}<Disk diskId='d2'/><Disk diskId='d1' fileRef='f'/></E>",
            drive.repeat(33_000),
            "<Disk diskId='x'/>".repeat(33_000)
        );
        assert_eq!(system_disk(&text).unwrap(), "a");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let entities = "<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>";
        for bad in [
            "",
            "<a/>",
            "<a",
            entities,
            "<E><Disk fileRef='x'/></E>",
            "<E><Disk fileRef='x'/><File id='x' href='a' chunkSize='3'/></E>",
        ] {
            assert!(system_disk(bad).is_err(), "{bad}");
        }
    }
}
