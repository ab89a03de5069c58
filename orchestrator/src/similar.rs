//! "Did you mean".

/// The candidate most like `word`, where one is like it enough to be meant.
pub(crate) fn nearest<'a, S: AsRef<str>>(word: &str, candidates: &'a [S]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate.as_ref()), candidate.as_ref()))
        .filter(|(distance, candidate)| *distance <= 1 + word.len().min(candidate.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_misses_are_found_and_others_are_not() {
        let names = ["web", "database", "cache"];
        assert_eq!(nearest("wbe", &names), Some("web"));
        assert_eq!(nearest("databse", &names), Some("database"));
        assert_eq!(nearest("x", &["y-long-name"]), None);
        assert_eq!(nearest("queue", &names), None);
    }
}
