//! `synced_folders`.

use std::path::{Component, Path, PathBuf};

use posada_provider_api::SyncedFolder;

use super::{Decoder, Given, Located};
use crate::vmfile::node::{Value, shorten};
use crate::vmfile::shape::Shape;
use crate::vmfile::table;

impl Decoder<'_> {
    /// The folders given, each with the place of its target.
    pub(super) fn folders(&mut self, given: Given<'_>) -> Vec<Located<SyncedFolder>> {
        let Shape::List(shape) = given.shape else { return Vec::new() };
        self.list(given, shape).into_iter().filter_map(|entry| self.folder(entry)).collect()
    }

    fn folder(&mut self, entry: Given<'_>) -> Option<Located<SyncedFolder>> {
        if !matches!(entry.node.value, Value::Map(_)) {
            return self.short_folder(&entry);
        }
        let fields = self.table(entry.node, &entry.node.span, &table::SYNCED_FOLDER);
        let source = fields.get("source").and_then(|given| {
            let word = self.text(&given)?;
            self.host_path(&given, &word.text)
        });
        let target = fields
            .get("target")
            .and_then(|given| Some((self.parsed(&given, target)?, given.node.span.clone())));
        let read_only = fields.get("read_only").and_then(|given| self.truth(&given)).unwrap_or(false);
        let create = fields.get("create").and_then(|given| self.truth(&given)).unwrap_or(false);
        let (target, span) = target?;
        Some(Located { value: SyncedFolder { source: source?, target, read_only, create }, span })
    }

    /// `source:target[:ro]`.
    fn short_folder(&mut self, entry: &Given<'_>) -> Option<Located<SyncedFolder>> {
        let word = self.text(entry)?;
        let (paths, read_only) = match word.text.rsplit_once(':') {
            Some((paths, "ro")) => (paths, true),
            Some((paths, "rw")) => (paths, false),
            _ => (word.text.as_ref(), false),
        };
        let Some((from, to)) = paths.split_once(':').filter(|(from, _)| !from.trim().is_empty()) else {
            let hint = "write `source:target` or `source:target:ro`, such as `./src:/srv/app`".to_owned();
            self.reject(entry, &word, "names no folder of the host and its place in the machine", hint);
            return None;
        };
        if to.contains(':') {
            let hint = "write a map with `source` and `target` where a path holds a `:`".to_owned();
            self.reject(entry, &word, "holds a `:` too many", hint);
            return None;
        }
        let target = match target(to) {
            Ok(target) => target,
            Err(why) => {
                let message = format!("{}: {why}", entry.label());
                self.faults.push(entry.span(), message).hint("choose a target such as `/srv/app`");
                return None;
            }
        };
        let source = self.host_path(entry, from)?;
        Some(Located {
            value: SyncedFolder { source, target, read_only, create: false },
            span: entry.node.span.clone(),
        })
    }
}

/// A place in the machine where a folder can be seen.
fn target(text: &str) -> Result<PathBuf, String> {
    let shown = shorten(text);
    let path: PathBuf = Path::new(text).components().collect();
    if !path.is_absolute() {
        return Err(format!("`{shown}` is no absolute path in the machine"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("`{shown}` holds `..`"));
    }
    let taken = ["/", "/proc", "/sys", "/dev", "/run"];
    let clash =
        |top: &&str| path == Path::new(top) || (*top != "/" && *top != "/run" && path.starts_with(top));
    match taken.iter().find(|top| clash(top)) {
        Some(top) => Err(format!("`{shown}` would hide the machine's own `{top}`")),
        None => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_leave_the_machine_its_own() {
        for (text, path) in [
            ("/srv/app", "/srv/app"),
            ("/srv//app/./", "/srv/app"),
            ("/run/x", "/run/x"),
            ("/devel", "/devel"),
        ] {
            assert_eq!(target(text), Ok(PathBuf::from(path)), "{text}");
        }
        for text in ["srv", "", "/", "//", "/proc", "/sys/fs", "/dev/shm", "/run", "/srv/../etc"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
