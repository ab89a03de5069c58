//! A recipe's files as a tar archive, which mmdebstrap unpacks over the packages.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};

use super::recipe::{Body, Recipe};

/// Where a box says what it is; what an unpacked tree is asked for first.
const DECLARATION: &str = "/usr/lib/posada/box.json";

/// Writes the files of `recipe`, with `time` as theirs.
pub fn write(recipe: &Recipe, time: u64, out: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(out);
    let declaration = serde_json::json!({ "user": recipe.user(), "recipe": recipe.digest() });
    file(&mut archive, DECLARATION, &format!("{declaration:#}\n"), 0o644, time)?;
    for there in recipe.files() {
        match &there.body {
            Body::Content { text, mode } => file(&mut archive, &there.path, text, *mode, time)?,
            Body::Link(target) => {
                let mut header = header(EntryType::Symlink, 0, 0o777, time);
                archive.append_link(&mut header, relative(&there.path), target)?;
            }
        }
    }
    archive.into_inner()?.flush()
}

fn file(archive: &mut Builder<impl Write>, path: &str, text: &str, mode: u32, time: u64) -> io::Result<()> {
    let mut header = header(EntryType::Regular, text.len() as u64, mode, time);
    archive.append_data(&mut header, relative(path), text.as_bytes())
}

fn header(kind: EntryType, size: u64, mode: u32, time: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(time);
    header
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_the_files_and_is_the_same_each_time() {
        let text = "name: a\nsuite: x\nfiles:\n- {path: /etc/x, content: hi, mode: '0600'}\n- {path: /etc/y, link: x}\n";
        let recipe = Recipe::parse(text, "a.yaml").unwrap();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        write(&recipe, 7, &mut first).unwrap();
        write(&recipe, 7, &mut second).unwrap();
        assert!(first == second);
        let mut archive = tar::Archive::new(&first[..]);
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                (entry.path().unwrap().into_owned(), header.mode().unwrap(), header.mtime().unwrap())
            })
            .collect();
        let expected = [("usr/lib/posada/box.json", 0o644, 7), ("etc/x", 0o600, 7), ("etc/y", 0o777, 7)];
        assert_eq!(entries, expected.map(|(path, mode, time)| (path.into(), mode, time)));
    }
}
