//! Files in memory, for tests and fuzz targets.

use std::collections::BTreeMap;

use super::Files;
use crate::DiskError;

/// Files by their absolute paths.
#[derive(Debug, Default)]
pub struct Memory(pub BTreeMap<String, Vec<u8>>);

impl Memory {
    pub fn new(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
    }
}

impl Files for Memory {
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
        let bytes = self.0.get(path).cloned();
        match bytes {
            Some(bytes) if bytes.len() as u64 > limit => {
                Err(DiskError::Absurd { path: path.into(), what: String::new() })
            }
            bytes => Ok(bytes),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<String>, DiskError> {
        let inside = self.0.keys().filter_map(|file| file.strip_prefix(path)?.strip_prefix('/'));
        let mut names: Vec<String> =
            inside.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect();
        names.dedup();
        Ok(names)
    }

    fn exists(&self, path: &str) -> bool {
        self.0.contains_key(path) || self.list(path).is_ok_and(|names| !names.is_empty())
    }
}
