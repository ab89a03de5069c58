//! The kernel's command line: what the disk's own boot loader gives, and what a machine without a screen needs.

use posada_provider_api::Seeding;

/// `loader` with what is missing in it. Words that are there already are left as they are.
///
/// - `console=ttyS0` last, as `/dev/console` is the last console that is named: the init speaks there, and a login is
///   offered there.
/// - `systemd.show_status=1`: systemd tells there what it has started also where the command line says `quiet`. Each
///   line is an event upon which a waiting connection tries again. Other inits pass it over.
/// - `ds=nocloud` for cloud-init: its seed is on a disk, and no other source is to be looked for.
pub(crate) fn complete(loader: &str, seeding: Seeding) -> String {
    let has = |key: &str| words(loader).any(|word| word.starts_with(key));
    let last_console = words(loader).filter_map(|word| word.strip_prefix("console=")).last();
    let speaks = last_console.is_some_and(|console| console.split(',').next() == Some("ttyS0"));
    let missing = [
        (!speaks, "console=ttyS0"),
        (!has("systemd.show_status="), "systemd.show_status=1"),
        (seeding == Seeding::CloudInit && !has("ds="), "ds=nocloud"),
    ];
    // What follows `--` is the init's (Documentation/admin-guide/kernel-parameters.rst).
    let (ours, init) = match loader.split_once(" -- ") {
        Some((kernel, init)) => (kernel, Some(init)),
        None => (loader, None),
    };
    let added = missing.into_iter().filter_map(|(is_missing, word)| is_missing.then_some(word));
    let mut line: Vec<&str> = std::iter::once(ours.trim()).filter(|ours| !ours.is_empty()).collect();
    line.extend(added);
    line.extend(init.into_iter().flat_map(|init| ["--", init]));
    line.join(" ")
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().take_while(|word| *word != "--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cloud_image_has_is_left_alone() {
        let debian = "root=PARTUUID=0f3f ro console=tty0 console=ttyS0,115200 earlyprintk=ttyS0,115200";
        assert_eq!(
            complete(debian, Seeding::CloudInit),
            format!("{debian} systemd.show_status=1 ds=nocloud")
        );
        let told = "root=/dev/vda1 console=ttyS0 systemd.show_status=auto ds=nocloud;h=web";
        assert_eq!(complete(told, Seeding::CloudInit), told);
    }

    #[test]
    fn the_last_console_is_the_serial_line() {
        assert_eq!(
            complete("root=/dev/vda1 console=ttyS0 console=tty1 quiet", Seeding::None),
            "root=/dev/vda1 console=ttyS0 console=tty1 quiet console=ttyS0 systemd.show_status=1"
        );
        assert_eq!(
            complete("console=ttyS01", Seeding::None),
            "console=ttyS01 console=ttyS0 systemd.show_status=1"
        );
        assert_eq!(complete("", Seeding::None), "console=ttyS0 systemd.show_status=1");
    }

    #[test]
    fn what_is_the_inits_stays_behind_the_line() {
        assert_eq!(
            complete("root=/dev/vda1 -- ds=x single", Seeding::CloudInit),
            "root=/dev/vda1 console=ttyS0 systemd.show_status=1 ds=nocloud -- ds=x single"
        );
    }
}
