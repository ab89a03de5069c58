//! The seed as cloud-init reads it.

mod scripts;

use posada_provider_api::{GuestAccess, MachineId};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn input() -> SeedInput {
    SeedInput {
        machine: MachineId::parse("web-3f9a1c20").unwrap(),
        hostname: "web.example.org".to_owned(),
        access: GuestAccess {
            user: "debian".to_owned(),
            authorized_key: "ssh-ed25519 AAAAlogin posada\n".to_owned(),
            host_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"
                .to_owned(),
            host_key_public: "ssh-ed25519 AAAAhost web".to_owned(),
        },
        env: [("STAGE".to_owned(), "a b:c".to_owned()), ("BAD".to_owned(), "\n".to_owned())].into(),
        nics: vec![
            Nic { name: "eth0".into(), mac: [0x52, 0x3f, 0x9a, 0x1c, 0x20, 0], addressing: Addressing::Nat },
            Nic {
                name: "eth1".into(),
                mac: [0x52, 0x3f, 0x9a, 0x1c, 0x20, 1],
                addressing: Addressing::Static([192, 168, 60, 10].into(), 24),
            },
            Nic { name: "eth2".into(), mac: [0x52, 0x3f, 0x9a, 0x1c, 0x20, 2], addressing: Addressing::Dhcp },
        ],
        folders: vec![
            SeedFolder { tag: "folder0".into(), target: "/home/debian/src".into(), read_only: false },
            SeedFolder { tag: "folder1".into(), target: "/srv/it's here".into(), read_only: true },
        ],
        changes: Some(Changes { port: "org.posada.changes".into(), raising: 6_181_311_329 }),
    }
}

fn read(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

#[test]
fn a_seed_in_full() {
    let seed = render_seed(&input()).unwrap();
    insta::assert_snapshot!(
        "seed",
        format!(
            "{}\n--- meta-data\n{}\n--- network-config\n{}",
            seed.user_data,
            seed.meta_data(0).unwrap(),
            seed.network_config
        )
    );
    assert_eq!(seed.left_out, ["BAD"]);
}

#[test]
fn an_instance_is_a_machine_with_what_it_is_told() {
    let id = |input: &SeedInput| {
        let seed = render_seed(input).unwrap();
        let told =
            |attempt| read(&seed.meta_data(attempt).unwrap())["instance-id"].as_str().unwrap().to_owned();
        assert_eq!((told(0), told(2)), (seed.instance_id.clone(), format!("{}-2", seed.instance_id)));
        seed.instance_id
    };
    let first = id(&input());
    assert!(first.starts_with("web-3f9a1c20-") && first.len() == 25, "{first}");
    assert_eq!(id(&input()), first);
    let mut moved = input();
    moved.nics.truncate(1);
    let mut renamed = input();
    renamed.hostname = "db".into();
    let mut other = input();
    other.machine = MachineId::parse("web-00000000").unwrap();
    let ids: std::collections::BTreeSet<String> =
        [&input(), &moved, &renamed, &other].into_iter().map(id).collect();
    assert_eq!(ids.len(), 4, "{ids:?}");
}

#[test]
fn root_may_log_in_where_root_is_the_login_user() {
    let mut root = input();
    root.access.user = "root".into();
    assert_eq!(read(&render_seed(&root).unwrap().user_data)["disable_root"], false);
    assert_eq!(read(&render_seed(&input()).unwrap().user_data)["disable_root"], true);
}

#[test]
fn a_debug_print_keeps_the_host_key_to_itself() {
    assert!(!format!("{:?}", render_seed(&input()).unwrap()).contains("PRIVATE"));
}

proptest! {
    #[test]
    fn hostile_values_arrive_as_they_are(
        hostname in any::<String>(),
        user in any::<String>(),
        value in "[^\n\r\0#\"']*",
        target in any::<String>(),
        nic in any::<String>(),
    ) {
        let mut input = input();
        input.hostname = hostname.clone();
        input.access.user = user.clone();
        input.env = [("V".to_owned(), value.clone())].into();
        input.folders[0].target = target.clone();
        input.nics.truncate(1);
        input.nics[0].name = nic.clone();
        let seed = render_seed(&input).unwrap();
        prop_assert!(seed.user_data.starts_with("#cloud-config\n"));
        let data = read(&seed.user_data);
        prop_assert_eq!(&data["fqdn"], &hostname);
        prop_assert_eq!(&data["users"][0]["name"], &user);
        let commands = data["bootcmd"].as_array().unwrap();
        let environment = commands.iter().find(|command| command[4] == "/etc/environment").unwrap();
        prop_assert_eq!(&environment[5], &format!("V=\"{value}\""));
        let folder = &commands[6];
        prop_assert_eq!(&folder[5], &target);
        prop_assert_eq!(&folder[7], &user);
        prop_assert_eq!(&read(&seed.meta_data(0).unwrap())["local-hostname"], &hostname);
        let network = read(&seed.network_config);
        let ethernets = network["ethernets"].as_object().unwrap();
        prop_assert_eq!(ethernets.len(), 1);
        prop_assert_eq!(&ethernets[&nic]["match"]["macaddress"], "52:3f:9a:1c:20:00");
    }
}

#[test]
fn settings_say_what_a_seed_says_beyond_users_and_keys() {
    let settings = settings(&input());
    assert_eq!(settings.left_out, ["BAD"]);
    let told: Vec<_> = settings.settings.iter().map(|setting| setting.what.as_str()).collect();
    let wanted = [
        "the host name",
        "/etc/hosts",
        "/etc/hosts",
        "/etc/environment",
        "the address 192.168.60.10",
        "the folder /home/debian/src",
        "the folder /srv/it's here",
        "news of changes in folders",
    ];
    assert_eq!(told, wanted);
    // No value is ever a part of a script.
    let again = super::settings(&SeedInput { hostname: "other".into(), ..input() });
    for (one, other) in settings.settings.iter().zip(&again.settings) {
        assert_eq!(one.command[..4], other.command[..4]);
        assert_eq!(one.command[3], "posada");
    }
    let seed = render_seed(&input()).unwrap();
    let boot: Vec<Vec<String>> = serde_json::from_value(read(&seed.user_data)["bootcmd"].clone()).unwrap();
    let shared = settings.settings.iter().filter(|setting| boot.contains(&setting.command)).count();
    assert_eq!(shared, wanted.len() - 2, "all but host name and address are a seed's own commands");
}
