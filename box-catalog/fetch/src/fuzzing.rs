//! Entries for fuzz targets and property tests: each takes any bytes, and must return.

/// A file of checksums.
pub fn sums(bytes: &[u8]) {
    let sums = crate::Sums::parse(&String::from_utf8_lossy(bytes));
    let _ = sums.of("a.box");
}

/// A journal that somebody else wrote.
pub fn journal(bytes: &[u8]) {
    crate::download::read_journal(bytes);
}

/// The header that tells which part of a file comes.
pub fn content_range(bytes: &[u8]) {
    crate::download::read_content_range(&String::from_utf8_lossy(bytes));
}
