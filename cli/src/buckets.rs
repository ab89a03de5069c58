//! How buckets of object stores are reached: by the variables and files that all clients of S3 go by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use configparser::ini::{Ini, IniDefault};

use crate::context::env;

/// What a profile says, and the variable that says the same.
const KEYS: [(&str, &str); 5] = [
    ("aws_access_key_id", "aws_access_key_id"),
    ("aws_secret_access_key", "aws_secret_access_key"),
    ("aws_session_token", "aws_session_token"),
    ("region", "aws_region"),
    ("endpoint_url", "aws_endpoint"),
];

/// What the variables `AWS_…` say, by their names in lower case; and where they name nobody who asks, what the profile of `AWS_PROFILE` (else
/// `default`) says in `~/.aws`.
pub fn options() -> Vec<(String, String)> {
    let named = |name: &str, file: &str| {
        let home = || etcetera::home_dir().ok().map(|home| home.join(".aws").join(file));
        env(name).map(PathBuf::from).or_else(home)
    };
    let files = [named("AWS_SHARED_CREDENTIALS_FILE", "credentials"), named("AWS_CONFIG_FILE", "config")];
    let variables = std::env::vars()
        .filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty())
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    with_profile(variables, files.iter().flatten().map(PathBuf::as_path))
}

fn with_profile<'a>(
    mut options: BTreeMap<String, String>,
    files: impl Iterator<Item = &'a Path>,
) -> Vec<(String, String)> {
    let profile = options.get("aws_profile").map_or("default", String::as_str).to_owned();
    let sections = [profile.clone(), format!("profile {profile}")];
    let known = ["aws_access_key_id", "aws_web_identity_token_file", "aws_skip_signature"];
    let who = known.iter().any(|name| options.contains_key(*name));
    for file in files {
        let mut whole_lines = IniDefault::default();
        whole_lines.inline_comment_symbols = Some(Vec::new());
        whole_lines.case_sensitive = true;
        let mut read = Ini::new_from_defaults(whole_lines);
        // One that is not there, or is none, says nothing: whoever needs it is told by the bucket.
        if read.load(file).is_err() {
            continue;
        }
        for section in &sections {
            for (key, option) in KEYS {
                let secret = key.starts_with("aws_");
                if let Some(value) = read.get(section, key).filter(|_| !(secret && who)) {
                    options.entry(option.to_owned()).or_insert(value);
                }
            }
        }
    }
    if options.contains_key("aws_endpoint_url") || options.contains_key("aws_endpoint_url_s3") {
        options.remove("aws_endpoint");
    }
    options.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        let temp = tempfile::tempdir().unwrap();
        let (credentials, config) = (temp.path().join("credentials"), temp.path().join("config"));
        let text = "[default]\naws_access_key_id = one\naws_secret_access_key=a/b+c=\n\n[team]\naws_access_key_id = two\n\
                    aws_secret_access_key = \"d\n";
        fs_err::write(&credentials, text).unwrap();
        let text = "# who knows\n[default]\nregion = eu-central-1\ns3 =\n  max_queue_size = 5\n[profile team]\n\
                    endpoint_url = https://s3.example.org\n";
        fs_err::write(&config, text).unwrap();
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let missing = temp.path().join("none");
        let files = [credentials, missing, config];
        with_profile(variables.iter().map(own).collect(), files.iter().map(PathBuf::as_path))
            .into_iter()
            .collect()
    }

    #[test]
    fn a_profile_says_who_asks_unless_the_environment_does() {
        let found = read(&[]);
        assert_eq!(found["aws_secret_access_key"], "a/b+c=");
        assert_eq!((&*found["aws_access_key_id"], &*found["aws_region"]), ("one", "eu-central-1"));
        let found = read(&[("aws_profile", "team"), ("aws_region", "x")]);
        assert_eq!((&*found["aws_access_key_id"], &*found["aws_region"]), ("two", "x"));
        assert_eq!(
            (&*found["aws_secret_access_key"], &*found["aws_endpoint"]),
            ("\"d", "https://s3.example.org")
        );
        let found = read(&[("aws_access_key_id", "three")]);
        assert_eq!(found.get("aws_secret_access_key"), None, "keys of two are not mixed");
        assert_eq!(found["aws_region"], "eu-central-1");
        assert_eq!(read(&[("aws_profile", "none")]).len(), 1);
    }
}
