//! "Did you mean".

/// The most candidates that are looked at; a file that has more is no one's hand-writing.
const MAX_CANDIDATES: usize = 256;

/// The candidate that `word` is most likely meant to be, if any is near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .map(|candidate| (strsim::jaro_winkler(&folded, &fold(candidate)), candidate))
        .filter(|(score, candidate)| {
            *score > 0.84
                || strsim::damerau_levenshtein(&folded, &fold(candidate)) <= candidate.len().min(6) / 3
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Spelling that people do not tell apart: case, `-` for `_`, a plural's `s`.
fn fold(word: &str) -> String {
    let word = word.to_lowercase().replace('-', "_");
    word.strip_suffix('s').unwrap_or(&word).chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let keys = ["box", "box_version", "cpus", "memory", "networks", "synced_folders", "depends_on"];
        for (typed, meant) in [
            ("cpu", "cpus"),
            ("CPUS", "cpus"),
            ("memroy", "memory"),
            ("network", "networks"),
            ("synced-folder", "synced_folders"),
            ("depend_on", "depends_on"),
            ("bx", "box"),
            ("boxversion", "box_version"),
        ] {
            assert_eq!(nearest(typed, keys), Some(meant), "{typed}");
        }
        for typed in ["colour", "x", "image", ""] {
            assert_eq!(nearest(typed, keys), None, "{typed}");
        }
    }

    #[test]
    fn names_of_machines_are_found_too() {
        let names = ["web", "database", "cache"];
        assert_eq!(nearest("wbe", names), Some("web"));
        assert_eq!(nearest("databse", names), Some("database"));
        assert_eq!(nearest("x", ["y-long-name"]), None);
        assert_eq!(nearest("queue", names), None);
    }
}
