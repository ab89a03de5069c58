//! `DiskDescriptor.xml` of a Parallels disk (QEMU's `docs/interop/prl-xml.rst`): which files hold its bytes, and where on the disk
//! each lies.

use roxmltree::Node;

use super::xml::parse;
use crate::error::{corrupt, unsupported};
use crate::pages::Cache;
use crate::probe::probe_storage;
use crate::read::{Flat, Map, Mapped, Several, parallels_disk};
use crate::{Format, ImageError, ReadImage, Result, Storage};

const SECTOR: u64 = 512;
/// The engine of what is not encrypted.
const NO_ENGINE: &str = "{00000000-0000-0000-0000-000000000000}";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The bytes as they are.
    Plain,
    /// An expanding disk.
    Compressed,
}

/// A piece of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// Where it begins and ends, sectors; `None` for all of a disk that is in one piece.
    range: Option<(u64, u64)>,
    kind: Kind,
    file: String,
}

/// Opens the disk; `find` finds the files that its description names.
pub fn open(text: &str, find: &dyn Fn(&str) -> Result<Storage>) -> Result<Box<dyn ReadImage>> {
    let mut pieces: Vec<(u64, Box<dyn Map>)> = Vec::new();
    let cache = Cache::default();
    for piece in described(text)? {
        let storage = find(&piece.file)?;
        let length = piece.range.map(|(start, end)| (end - start).saturating_mul(SECTOR));
        let map: Box<dyn Map> = match piece.kind {
            Kind::Plain => {
                let length = length.unwrap_or(storage.length());
                if storage.length() < length {
                    return Err(ImageError::Truncated(format!("its file `{}` is too short", piece.file)));
                }
                Box::new(Flat::whole(storage.part(0, length))?)
            }
            Kind::Compressed if probe_storage(&storage)? == Format::Parallels => {
                Box::new(parallels_disk(storage, &cache)?)
            }
            Kind::Compressed => {
                return Err(corrupt(format!("its file `{}` is no expanding disk", piece.file)));
            }
        };
        pieces.push((length.unwrap_or(map.size()), map));
    }
    Ok(Box::new(Mapped::new(Several::new(pieces)?)))
}

fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|child| child.tag_name().name() == name)
}

fn text_of<'a>(node: Node<'a, 'a>, name: &str) -> Option<&'a str> {
    child(node, name).and_then(|child| child.text()).map(str::trim)
}

fn number(node: Node<'_, '_>, name: &str) -> Result<Option<u64>> {
    let bad = |_| corrupt(format!("`{name}` of its description is no number"));
    text_of(node, name).map(|text| text.parse().map_err(bad)).transpose()
}

/// The pieces of the disk, in order.
fn described(text: &str) -> Result<Vec<Piece>> {
    let document = parse(text)?;
    let root = document.root_element();
    let size = match child(root, "Disk_Parameters") {
        Some(parameters) => size(parameters)?,
        None => None,
    };
    let count = |node: Node<'_, '_>, name| node.descendants().filter(|node| node.has_tag_name(name)).count();
    let snapshots = child(root, "Snapshots").map_or(0, |snapshots| count(snapshots, "Shot"));
    let storages =
        child(root, "StorageData").map(|data| data.children().filter(|node| node.has_tag_name("Storage")));
    let mut pieces = Vec::new();
    for storage in storages.into_iter().flatten() {
        if snapshots > 1 || count(storage, "Image") > 1 {
            return Err(ImageError::Differences(": snapshots hold the rest".to_owned()));
        }
        pieces.push(piece(storage)?);
    }
    if pieces.is_empty() {
        return Err(corrupt("its description names no file"));
    }
    if let [Piece { range: None, .. }] = pieces[..] {
        return Ok(pieces);
    }
    pieces.sort_by_key(|piece| piece.range);
    let mut end = 0;
    for piece in &pieces {
        match piece.range {
            Some((start, stop)) if start == end && stop > start => end = stop,
            _ => return Err(corrupt("the pieces of its disk overlap, or leave some of it out")),
        }
    }
    if size.is_some_and(|size| size != end) {
        return Err(corrupt("the pieces of its disk are not as long as it is said to be"));
    }
    let mut names: Vec<_> = pieces.iter().map(|piece| &piece.file).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(corrupt(format!("two pieces of its disk are in the same file `{}`", pair[0])));
    }
    Ok(pieces)
}

/// How large the disk is, sectors; what it is made in another way for is refused.
fn size(parameters: Node<'_, '_>) -> Result<Option<u64>> {
    let engine = child(parameters, "Encryption").and_then(|encryption| text_of(encryption, "Engine"));
    if engine.is_some_and(|engine| !engine.is_empty() && engine != NO_ENGINE) {
        return Err(unsupported("encryption"));
    }
    if number(parameters, "Padding")?.is_some_and(|padding| padding != 0) {
        return Err(unsupported("a disk with padding"));
    }
    if let Some(size) = number(parameters, "LogicSectorSize")?.filter(|size| *size != SECTOR) {
        return Err(unsupported(format!("sectors of {size} bytes")));
    }
    number(parameters, "Disk_size")
}

fn piece(storage: Node<'_, '_>) -> Result<Piece> {
    let image = child(storage, "Image").ok_or_else(|| corrupt("its description names no file"))?;
    let file = text_of(image, "File").ok_or_else(|| corrupt("its description names no file"))?;
    let kind = match text_of(image, "Type") {
        Some("Compressed") | None => Kind::Compressed,
        Some("Plain") => Kind::Plain,
        Some(other) => {
            let shown: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
            return Err(unsupported(format!("an image of the type `{shown}`")));
        }
    };
    let range = match (number(storage, "Start")?, number(storage, "End")?) {
        (Some(start), Some(end)) => Some((start, end)),
        (None, None) => None,
        _ => return Err(corrupt("its description says only where a piece of its disk begins, or ends")),
    };
    Ok(Piece { range, kind, file: file.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(parameters: &str, storages: &[&str], snapshots: &str) -> String {
        let storages: String = storages.iter().map(|inner| format!("<Storage>{inner}</Storage>")).collect();
        format!(
            "<?xml version='1.0' encoding='UTF-8'?><Parallels_disk_image Version=\"1.0\"><Disk_Parameters>{parameters}\
             </Disk_Parameters><StorageData>{storages}</StorageData><Snapshots>{snapshots}</Snapshots></Parallels_disk_image>"
        )
    }

    #[test]
    fn pieces_are_found_in_order() {
        let one = descriptor("", &["<Image><Type>Compressed</Type><File> a.hds </File></Image>"], "<Shot/>");
        let piece = |range, kind, file: &str| Piece { range, kind, file: file.to_owned() };
        assert_eq!(described(&one).unwrap(), [piece(None, Kind::Compressed, "a.hds")]);
        let split = descriptor(
            "<Disk_size>30</Disk_size><LogicSectorSize>512</LogicSectorSize><Padding>0</Padding>\
             <Encryption><Engine>{00000000-0000-0000-0000-000000000000}</Engine><Data></Data></Encryption>",
            &[
                "<Start>20</Start><End>30</End><Blocksize>2048</Blocksize><Image><GUID>{5f}</GUID><Type>Plain</Type><File>b</File></Image>",
                "<Start>0</Start><End>20</End><Image><File>a</File></Image>",
            ],
            "<Shot><GUID>{5f}</GUID><ParentGUID>{0}</ParentGUID></Shot>",
        );
        let pieces = [piece(Some((0, 20)), Kind::Compressed, "a"), piece(Some((20, 30)), Kind::Plain, "b")];
        assert_eq!(described(&split).unwrap(), pieces);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let a = "<Start>0</Start><End>20</End><Image><File>a</File></Image>";
        let other = |start, end, file| {
            format!(
                "<Start>{start}</Start><End>{end}</End><Image><Type>Plain</Type><File>{file}</File></Image>"
            )
        };
        let split = |start, end, file| descriptor("", &[a, &other(start, end, file)], "");
        for (text, why) in [
            ("<a/>".to_owned(), "names no file"),
            (descriptor("", &[], ""), "names no file"),
            (descriptor("", &["<Start>0</Start>"], ""), "names no file"),
            (descriptor("", &["<Image/>"], ""), "names no file"),
            (descriptor("", &[&a.replace("<End>20</End>", "")], ""), "only where"),
            (descriptor("", &[&a.replace("20", "-1")], ""), "`End` of its description is no number"),
            (descriptor("", &[&a.replace("20", "0")], ""), "leave some of it out"),
            (descriptor("", &[&a.replace(">0<", ">5<")], ""), "leave some of it out"),
            (descriptor("", &[a, "<Image><File>b</File></Image>"], ""), "leave some of it out"),
            (split("20", "20", "b"), "leave some of it out"),
            (split("19", "30", "b"), "overlap"),
            (split("21", "30", "b"), "leave some of it out"),
            (split("20", "30", "a"), "in the same file `a`"),
            (descriptor("<Disk_size>21</Disk_size>", &[a], ""), "not as long"),
            (descriptor("<Padding>1</Padding>", &[a], ""), "padding"),
            (descriptor("<LogicSectorSize>4096</LogicSectorSize>", &[a], ""), "sectors of 4096 bytes"),
            (descriptor("<Encryption><Engine>{1}</Engine></Encryption>", &[a], ""), "encryption"),
            (descriptor("", &["<Image><Type>Odd</Type><File>a</File></Image>"], ""), "the type `Odd`"),
        ] {
            let error = described(&text).unwrap_err();
            assert!(error.to_string().contains(why), "{error} instead of {why}");
        }
        let two = format!("{a}<Image><File>c</File></Image>");
        for text in [descriptor("", &[&two], ""), descriptor("", &[a], "<Shot/><Shot/>")] {
            assert!(matches!(described(&text), Err(ImageError::Differences(_))), "{text}");
        }
    }
}
