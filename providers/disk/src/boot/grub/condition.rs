//! GRUB's `test` (GRUB manual, "test").

/// Whether a condition holds; `exists` looks for a file. What is not understood does not hold.
pub fn holds(words: &[String], exists: &dyn Fn(&str) -> bool) -> bool {
    // `-o` binds weaker than `-a`, and no parentheses are taken.
    words.split(|word| word == "-o").any(|all| all.split(|word| word == "-a").all(|one| single(one, exists)))
}

fn single(mut words: &[String], exists: &dyn Fn(&str) -> bool) -> bool {
    let mut wanted = true;
    while let [first, rest @ ..] = words
        && first == "!"
    {
        wanted = !wanted;
        words = rest;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |a: &str, b: &str, by: fn(&i64, &i64) -> bool| match (number(a), number(b)) {
        (Some(a), Some(b)) => by(&a, &b),
        _ => false,
    };
    let holds = match words[..] {
        [] => false,
        [text] => !text.is_empty(),
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        ["-e" | "-f" | "-s" | "-d", path] => exists(path),
        [a, "=" | "==", b] => a == b,
        [a, "!=", b] => a != b,
        [a, "-eq", b] => compare(a, b, |a, b| a == b),
        [a, "-ne", b] => compare(a, b, |a, b| a != b),
        [a, "-lt", b] => compare(a, b, |a, b| a < b),
        [a, "-le", b] => compare(a, b, |a, b| a <= b),
        [a, "-gt", b] => compare(a, b, |a, b| a > b),
        [a, "-ge", b] => compare(a, b, |a, b| a >= b),
        _ => false,
    };
    holds == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_judged() {
        let judge = |text: &str| {
            let words: Vec<String> = text.split(' ').map(|word| word.replace('_', "")).collect();
            holds(&words, &|path| path == "/there")
        };
        for yes in ["xy = xy", "a != b", "-s /there", "! -s /gone", "-z _", "2 -gt 1", "a = b -o c", "a -a b"]
        {
            assert!(judge(yes), "{yes}");
        }
        for no in ["x = xy", "-n _", "-f /gone", "_", "a = a -a b = c", "one -eq one", "a b c d"] {
            assert!(!judge(no), "{no}");
        }
    }
}
