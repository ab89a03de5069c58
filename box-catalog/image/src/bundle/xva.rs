//! What XenServer and XCP-ng export: `ova.xml`, and each disk in a directory of its own, in pieces of 1 MiB that are
//! left out where they are zeros. `ova.xml` is written as XML-RPC writes values.

use roxmltree::Node;

use super::xml::parse;
use crate::error::{corrupt, unsupported};
use crate::read::{Map, Mapped, Place, Run};
use crate::{MAX_DISK, ReadImage, Result, Storage};

const PIECE: u64 = 1 << 20;

/// Opens the system's disk; `files` are all of the archive.
pub fn open(text: &str, files: &[(String, Storage)]) -> Result<Box<dyn ReadImage>> {
    let (disk, size) = system_disk(text)?;
    if size > MAX_DISK {
        return Err(unsupported(format!("a size of {size} bytes")));
    }
    let directory = format!("{disk}/");
    let mut pieces: Vec<(u64, Storage)> = Vec::new();
    for (path, content) in files {
        if let Some(number) = path.strip_prefix(&directory).and_then(|name| name.parse::<u64>().ok()) {
            if content.length() > PIECE || number.checked_mul(PIECE).is_none_or(|at| at >= size.max(1)) {
                return Err(corrupt(format!(
                    "its piece `{path}` lies behind the disk's end, or is too long"
                )));
            }
            pieces.push((number, content.clone()));
        }
    }
    if pieces.is_empty() {
        return Err(corrupt(format!("its disk `{disk}` is not there")));
    }
    pieces.sort_by_key(|(number, _)| *number);
    if pieces.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(corrupt("a piece of its disk is there twice"));
    }
    let (numbers, files) = pieces.into_iter().unzip();
    Ok(Box::new(Mapped::new(Xva { numbers, files, size })))
}

struct Xva {
    numbers: Vec<u64>,
    files: Vec<Storage>,
    size: u64,
}

impl Map for Xva {
    fn size(&self) -> u64 {
        self.size
    }

    fn files(&self) -> &[Storage] {
        &self.files
    }

    fn grain(&self, _: usize) -> Option<u64> {
        None
    }

    fn locate(&self, at: u64) -> Result<Run> {
        let (number, within) = (at / PIECE, at % PIECE);
        let zeros = |to: u64| Ok(Run { length: to - at, place: Place::Zero });
        match self.numbers.binary_search(&number) {
            Err(next) => zeros(self.numbers.get(next).map_or(self.size, |next| next * PIECE)),
            Ok(file) => match self.files[file].length().checked_sub(within) {
                // The last piece may be short.
                None | Some(0) => zeros((number + 1) * PIECE),
                Some(length) => Ok(Run { length, place: Place::Plain { file, at: within } }),
            },
        }
    }
}

/// The directory of the disk that is the machine's first device, and its size in bytes.
fn system_disk(text: &str) -> Result<(String, u64)> {
    let document = parse(text)?;
    let objects: Vec<_> = document.descendants().filter(|node| node.tag_name().name() == "struct").collect();
    let of = |class: &'static str| {
        let is = move |node: &&Node<'_, '_>| member_text(**node, "class").as_deref() == Some(class);
        objects
            .iter()
            .filter(is)
            .filter_map(|node| Some((member_text(*node, "id")?, structure(member(*node, "snapshot")?)?)))
    };
    let mut drives: Vec<_> = of("VBD")
        .filter(|(_, drive)| member_text(*drive, "type").is_none_or(|kind| kind == "Disk"))
        .filter_map(|(_, drive)| {
            let device = member_text(drive, "userdevice").and_then(|text| text.parse::<u64>().ok());
            Some((device.unwrap_or(u64::MAX), member_text(drive, "VDI")?))
        })
        .collect();
    drives.sort();
    let disks: Vec<_> = of("VDI").collect();
    let found = drives.iter().find_map(|(_, disk)| disks.iter().find(|(id, _)| id == disk));
    let (id, disk) = found.or(disks.first()).ok_or_else(|| corrupt("its description names no disk"))?;
    let size = member_text(*disk, "virtual_size").and_then(|text| text.parse().ok());
    Ok((id.clone(), size.ok_or_else(|| corrupt("its description does not say how large its disk is"))?))
}

/// The value of a member of a `struct`.
fn member<'a, 'i>(structure: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    let child = |node: Node<'a, 'i>, tag: &str| node.children().find(|child| child.tag_name().name() == tag);
    let named = |node: &Node<'a, 'i>| child(*node, "name").and_then(|node| node.text()) == Some(name);
    structure.children().find(named).and_then(|node| child(node, "value"))
}

/// A value's text, whether it is in an element of its own (`<string>`) or not.
fn member_text(structure: Node<'_, '_>, name: &str) -> Option<String> {
    let value = member(structure, name)?;
    let inner = value.children().find(Node::is_element).unwrap_or(value);
    inner.text().map(|text| text.trim().to_owned())
}

fn structure<'a, 'i>(value: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    value.children().find(|child| child.tag_name().name() == "struct")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: &str, id: &str, fields: &[(&str, &str)]) -> String {
        let member =
            |name: &str, value: &str| format!("<member><name>{name}</name><value>{value}</value></member>");
        let fields: String = fields.iter().map(|(name, value)| member(name, value)).collect();
        let snapshot = member("snapshot", &format!("<struct>{fields}</struct>"));
        format!("<value><struct>{}{}{snapshot}</struct></value>", member("class", class), member("id", id))
    }

    #[test]
    fn the_first_device_is_read_and_what_is_missing_is_zeros() {
        let text = [
            object("VDI", "Ref:3", &[("virtual_size", "9")]),
            object("VDI", "Ref:5", &[("virtual_size", "3146240")]),
            object("VBD", "Ref:8", &[("VDI", "Ref:3"), ("userdevice", "1"), ("type", "Disk")]),
            object("VBD", "Ref:9", &[("VDI", "Ref:5"), ("userdevice", "0"), ("type", "Disk")]),
        ];
        let text = format!("<value><array><data>{}</data></array></value>", text.concat());
        let piece = |name: &str, length| (name.to_owned(), Storage::memory(vec![7; length]));
        let files =
            [piece("Ref:5/00000003", 512), piece("Ref:5/00000000", 1 << 20), piece("Ref:3/00000000", 9)];
        let image = open(&text, &files).unwrap();
        image.check(&|| false).unwrap();
        let mut bytes = vec![1; 3_146_240];
        image.read_at(&mut bytes, 0).unwrap();
        assert!(
            bytes[..1 << 20].iter().all(|byte| *byte == 7) && bytes[3 << 20..].iter().all(|byte| *byte == 7)
        );
        assert!(bytes[1 << 20..3 << 20].iter().all(|byte| *byte == 0));
        assert!(open(&text, &[piece("Ref:5/00000009", 512)]).is_err());
        assert!(open(&text, &[piece("Ref:5/0", 1), piece("Ref:5/00", 1)]).is_err());
        assert!(open(&text, &[]).is_err() && open("<a/>", &files).is_err());
    }
}
