//! `DiskDescriptor.xml` of a Parallels disk: which file holds its bytes.

use super::xml;
use crate::error::{corrupt, unsupported};
use crate::{ImageError, Result};

/// The name of the only image. Several are the pieces of a split disk, or what snapshots have changed.
pub fn image(text: &str) -> Result<String> {
    let document = xml(text)?;
    let count = |name: &str| document.descendants().filter(|node| node.tag_name().name() == name).count();
    if count("Storage") > 1 {
        return Err(unsupported("a disk split into several files"));
    }
    if count("Image") > 1 {
        return Err(ImageError::Differences(String::new()));
    }
    let image = document.descendants().find(|node| node.tag_name().name() == "Image");
    let file = image.and_then(|image| image.children().find(|node| node.tag_name().name() == "File"));
    let name = file.and_then(|file| file.text()).map(|name| name.trim().to_owned());
    name.ok_or_else(|| corrupt("its description names no file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_image_is_found() {
        let one = "<Parallels_disk_image><StorageData><Storage><Image><Type>Compressed</Type><File> a.hds </File></Image></Storage></StorageData></Parallels_disk_image>";
        assert_eq!(image(one).unwrap(), "a.hds");
        let snapshot = one.replace("</Storage>", "<Image><File>b</File></Image></Storage>");
        assert!(matches!(image(&snapshot), Err(ImageError::Differences(_))));
        assert!(image("<a/>").is_err());
    }
}
