//! The configuration of extlinux and syslinux (Syslinux wiki, "Config").

use super::{Choice, MAX_CONFIG, Place, Rule, Volumes};
use crate::DiskError;

const CONFIGS: [&str; 8] = [
    "/boot/extlinux/extlinux.conf",
    "/extlinux/extlinux.conf",
    "/boot/syslinux/syslinux.cfg",
    "/syslinux/syslinux.cfg",
    "/boot/extlinux.conf",
    "/extlinux.conf",
    "/boot/syslinux.cfg",
    "/syslinux.cfg",
];
/// Most labels that are read.
const MAX_LABELS: usize = 256;

#[derive(Debug, Default)]
struct Label {
    name: String,
    kernel: String,
    initrds: Vec<String>,
    append: String,
    default: bool,
}

/// Goes by the first configuration there is.
pub fn choose(volumes: &Volumes, first: Option<usize>) -> Result<Option<Choice>, DiskError> {
    for volume in volumes.beginning_with(first) {
        for config in CONFIGS {
            let place = Place { volume, path: config.to_owned() };
            let Some(text) = volumes.text(&place, MAX_CONFIG)? else { continue };
            let Some(label) = default(&text) else { continue };
            let directory = config.rsplit_once('/').map_or("", |(directory, _)| directory);
            let place = |path: &String| {
                // Relative ones are those beside the configuration.
                let path = if path.starts_with('/') { path.clone() } else { normal(directory, path) };
                Place { volume, path }
            };
            return Ok(Some(Choice {
                kernel: place(&label.kernel),
                initrds: label.initrds.iter().map(place).collect(),
                cmdline: label.append,
                version: None,
                rule: Rule::Extlinux,
            }));
        }
    }
    Ok(None)
}

fn default(text: &str) -> Option<Label> {
    let (mut wanted, mut append, mut labels) = (None, String::new(), Vec::<Label>::new());
    for line in text.lines().map(str::trim) {
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let value = value.trim();
        let room = labels.len() < MAX_LABELS;
        match (key.to_ascii_lowercase().as_str(), labels.last_mut()) {
            ("default" | "ontimeout", _) => wanted = wanted.or(Some(value.to_owned())),
            ("label", _) if room => {
                labels.push(Label { name: value.to_owned(), append: append.clone(), ..Label::default() });
            }
            ("append", None) => append = value.to_owned(),
            ("kernel" | "linux", Some(label)) => label.kernel = value.to_owned(),
            ("initrd", Some(label)) => label.initrds = value.split(',').map(str::to_owned).collect(),
            ("append", Some(label)) => label.append = value.to_owned(),
            ("menu", Some(label)) if value.eq_ignore_ascii_case("default") => label.default = true,
            _ => {}
        }
    }
    labels.retain(|label| !label.kernel.is_empty());
    let by_name = labels.iter().position(|label| wanted.as_ref() == Some(&label.name));
    let at = by_name.or_else(|| labels.iter().position(|label| label.default)).unwrap_or(0);
    let mut label = if at < labels.len() { labels.swap_remove(at) } else { return None };
    // The initial RAM file system may be named on the command line instead.
    let (inside, rest): (Vec<_>, Vec<_>) =
        label.append.split_ascii_whitespace().partition(|word| word.starts_with("initrd="));
    if label.initrds.is_empty() {
        let files = inside.iter().filter_map(|word| word.strip_prefix("initrd="));
        label.initrds = files.flat_map(|files| files.split(',')).map(str::to_owned).collect();
    }
    label.append = rest.join(" ");
    Some(label)
}

/// Puts a relative path below a directory.
fn normal(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::boot::testing::volumes;

    #[test]
    fn the_default_label_is_taken() {
        let text = "DEFAULT l0\nAPPEND none\nlabel other\n kernel /x\nLABEL l0\n MENU LABEL Debian\n LINUX ../vmlinuz-6\n APPEND initrd=../initrd-6,/more root=/dev/vda1 ro\n";
        let choice = choose(&volumes(&[&[("/boot/extlinux/extlinux.conf", text)]]), None).unwrap().unwrap();
        assert_eq!(choice.kernel.path, "/boot/vmlinuz-6");
        let initrds: Vec<_> = choice.initrds.iter().map(|place| place.path.as_str()).collect();
        assert_eq!(initrds, ["/boot/initrd-6", "/more"]);
        assert_eq!(choice.cmdline, "root=/dev/vda1 ro");
    }

    proptest! {
        #[test]
        fn nothing_in_a_configuration_panics(text in "((label|kernel|append|initrd|default|menu)[ \t]+.{0,20}\n){0,10}") {
            let _ = default(&text);
        }
    }
}
