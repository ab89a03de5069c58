//! The commands of every boot, run for real by the system's shell, as far as they can be without a machine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

fn run(script: &str, arguments: &[&str]) {
    let output = Command::new("sh").args(["-c", script, "posada"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn block(path: &Path, lines: &[&str]) -> String {
    let mut arguments = vec![path.to_str().unwrap()];
    arguments.extend(lines);
    run(include_str!("../../../assets/seed/block.sh"), &arguments);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_block_comes_changes_and_goes_without_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a file");
    std::fs::write(&path, "one\n# posada: end\ntwo").unwrap();
    let lines = ["-n $HOME `id` \\n %s", "it's"];
    let begun = "one\n# posada: end\ntwo\n";
    let with = format!("{begun}# posada: begin\n{}\n{}\n# posada: end\n", lines[0], lines[1]);
    assert_eq!(block(&path, &lines), with);
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).unwrap());
    let first = inode();
    assert_eq!(block(&path, &lines), with);
    assert_eq!(inode(), first, "what is so already is not written");
    assert_eq!(block(&path, &["x"]), format!("{begun}# posada: begin\nx\n# posada: end\n"));
    assert_eq!(block(&path, &[]), begun);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_not_there_is_made() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(block(&dir.path().join("new"), &["a"]), "# posada: begin\na\n# posada: end\n");
}

#[test]
fn localhost_is_added_once_and_only_where_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let script = include_str!("../../../assets/seed/localhost.sh");
    let (lacks, has) = (dir.path().join("lacks"), dir.path().join("has"));
    std::fs::write(&has, "127.0.0.1\tlocalhost\n").unwrap();
    for path in [&lacks, &lacks, &has] {
        run(script, &[path.to_str().unwrap()]);
    }
    let text = std::fs::read_to_string(&lacks).unwrap();
    assert_eq!(text, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    assert_eq!(std::fs::read_to_string(&has).unwrap(), "127.0.0.1\tlocalhost\n");
}

/// `getent`, `mount` and the like are stood in for by shell functions: what is tested is what the script asks of them.
#[test]
fn a_folder_makes_its_way_and_gives_what_is_in_the_home_to_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    std::fs::create_dir(dir.path().join("home")).unwrap();
    let stand_ins = format!(
        "getent() {{ echo \"debian:x:1000:1000::{root}/home:/bin/bash\"; }}\n\
         chown() {{ printf 'chown %s\\n' \"$*\" >>'{root}/log'; }}\n\
         findmnt() {{ return 1; }}\n\
         mount() {{ printf 'mount %s\\n' \"$*\" >>'{root}/log'; }}\n"
    );
    let ways = format!("{root}/run/ways");
    let script = stand_ins + include_str!("../../../assets/seed/folder.sh");
    let (inside, outside) = (format!("{root}/home/a b/c"), format!("{root}/srv/x"));
    run(&script, &["folder0", &inside, "nosuid,nodev", "debian", &ways]);
    run(&script, &["folder1", &outside, "nosuid,nodev,ro", "debian", &ways]);
    assert!(Path::new(&inside).is_dir() && Path::new(&outside).is_dir());
    for way in ["run", "run/ways"] {
        let mode = std::fs::metadata(dir.path().join(way)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "the ways are root's, all of them");
    }
    let way = "mount -t virtiofs -o nosuid,nodev,noexec,nosymfollow -- ";
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(
        log,
        format!(
            "{way}folder0 {ways}/folder0\n\
             chown -- debian: {root}/home/a b\nchown -- debian: {inside}\n\
             mount -t virtiofs -o nosuid,nodev -- folder0 {inside}\n\
             {way}folder1 {ways}/folder1\n\
             mount -t virtiofs -o nosuid,nodev,ro -- folder1 {outside}\n"
        )
    );
}

/// Names that would be options, patterns, commands or several words are one file each; what is not there is not made.
#[test]
fn what_has_changed_is_raised_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ways/folder0");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    let names = ["plain", "-rf", "a b", "*", "$(touch made)", "sub/new\nline\n", "\\0101", "ü"];
    for name in names.iter().chain(&["other"]) {
        std::fs::write(folder.join(name), "").unwrap();
    }
    std::os::unix::fs::symlink("other", folder.join("link")).unwrap();
    let encoded = |name: &str| -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"./-".contains(&byte);
        name.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("\\0{byte:03o}") })
            .collect()
    };
    let words: Vec<String> =
        names.iter().chain(&["gone", "link"]).map(|name| format!("./{}", encoded(name))).collect();
    let port = dir.path().join("port");
    std::fs::write(&port, format!("folder0 {}\nfolder0 .\n", words.join(" "))).unwrap();
    let ways = dir.path().join("ways");
    let raise = include_str!("../../../assets/seed/raise.sh");
    run(raise, &[port.to_str().unwrap(), "6181311329", ways.to_str().unwrap()]);
    let time = |name: &str| {
        let meta = std::fs::symlink_metadata(folder.join(name)).unwrap();
        std::os::unix::fs::MetadataExt::mtime(&meta)
    };
    for name in names.iter().chain(&["link", "."]) {
        assert_eq!(time(name), 6_181_311_329, "{name:?}");
    }
    assert_ne!(time("other"), 6_181_311_329);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), names.len() + 2);
}

#[test]
fn a_host_name_is_set_where_it_differs() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, kernels) = (dir.path().join("hostname"), dir.path().join("kernel"));
    std::fs::write(&kernels, "old\n").unwrap();
    for _ in 0..2 {
        let files = [&kept, &kernels].map(|path| path.to_str().unwrap());
        run(include_str!("../../../assets/seed/hostname.sh"), &["web.example.org", files[0], files[1]]);
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "web.example.org\n");
        assert_eq!(std::fs::read_to_string(&kernels).unwrap(), "web.example.org\n");
    }
}

/// A folder like `/sys/class/net`, in which a bridge shows the MAC address of a card.
fn interfaces(root: &Path) {
    for (name, mac, card) in [("br0", "52:3f:9a:1c:20:01", false), ("eth1", "52:3f:9a:1c:20:01", true)] {
        let folder = root.join("net").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("address"), format!("{mac}\n")).unwrap();
        if card {
            std::fs::create_dir(folder.join("device")).unwrap();
        }
    }
}

#[test]
fn an_address_is_given_and_kept_from_those_who_would_take_it_away() {
    for (manager, told) in [
        ("systemd-networkd", "networkctl reload\nnetworkctl reconfigure eth1\n"),
        ("NetworkManager", "nmcli device set eth1 managed no\n"),
        ("neither", ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        interfaces(dir.path());
        let note = |name: &str| format!("{name}() {{ echo {name} \"$@\" >>'{root}/log'; }}\n");
        let script = ["ip", "networkctl", "nmcli"].map(note).concat()
            + &format!("systemctl() {{ [ \"$3\" = {manager} ]; }}\n")
            + include_str!("../../../assets/seed/address.sh");
        let net = format!("{root}/net");
        run(&script, &["52:3f:9a:1c:20:01", "10.1.0.7/16", &net, &format!("{root}/run")]);
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
        let given = "ip link set dev eth1 up\nip address replace 10.1.0.7/16 dev eth1\n";
        assert_eq!(log, format!("{told}{given}"), "{manager}");
        let file = dir.path().join("run/00-posada-523f9a1c2001.network");
        assert_eq!(file.exists(), manager == "systemd-networkd");
    }
}

#[test]
fn an_interface_that_is_not_there_is_told() {
    let dir = tempfile::tempdir().unwrap();
    interfaces(dir.path());
    let output = Command::new("sh")
        .args([
            "-c",
            include_str!("../../../assets/seed/address.sh"),
            "posada",
            "52:3f:9a:1c:20:02",
            "10.1.0.7/16",
        ])
        .args([dir.path().join("net"), dir.path().join("run")])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "there is no network interface 52:3f:9a:1c:20:02\n");
}
