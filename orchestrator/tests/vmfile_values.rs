//! What a good Vmfile comes to: values, defaults, merging, parameters.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use posada_box_catalog::BoxRef;
use posada_orchestrator::vmfile::{
    Faults, HealthTest, Inputs, MAX_FAULTS, MAX_SIZE, MachineConfig, ProviderChoice, SshConfig, Vmfile,
};
use posada_provider_api::{
    BridgedNetwork, Fault, FaultKind, Forward, MachineName, Network, PrivateNetwork, Protocol,
};
use posada_provisioners::{Action, FileCopy, RunWhen, Script, Shell, Step};

fn read(text: &str, params: &[(&str, &str)]) -> Result<Vmfile, Faults> {
    let params: BTreeMap<String, String> =
        params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let env = |name: &str| match name {
        "NAME" => Some("value".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let inputs = Inputs { params, env: &env, project: "/project".into(), home: Some("/home/me".into()) };
    Vmfile::parse(text, Path::new("/project/Vmfile"), &inputs)
}

fn good(name: &str) -> Vmfile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vmfile/good/{name}.yaml"));
    match read(&std::fs::read_to_string(path).unwrap(), &[]) {
        Ok(vmfile) => vmfile,
        Err(faults) => panic!("{faults}"),
    }
}

fn machine<'a>(vmfile: &'a Vmfile, name: &str) -> &'a MachineConfig {
    vmfile.machine(&MachineName::new(name).unwrap()).unwrap()
}

fn only(text: &str) -> MachineConfig {
    match read(text, &[]) {
        Ok(vmfile) => vmfile.machines.into_iter().next().unwrap(),
        Err(faults) => panic!("{faults}"),
    }
}

#[test]
fn a_box_is_enough() {
    let config = only("box: debian/12\n");
    assert_eq!(config.name.as_str(), "default");
    assert_eq!(config.hostname, "default");
    assert_eq!(config.box_ref, BoxRef::parse("debian/12").unwrap());
    assert_eq!(config.provider, ProviderChoice::Auto);
    assert_eq!(config.ssh, SshConfig::default());
    assert_eq!(config.graceful_timeout, Duration::from_secs(10));
    assert_eq!(config.ssh.boot_timeout, Duration::from_secs(60));
    assert_eq!((config.cpus, config.memory, config.disk), (None, None, None));
    assert!(config.networks.is_empty() && config.synced_folders.is_empty() && config.provision.is_empty());
    assert!(config.healthcheck.is_none() && config.post_up_message.is_none() && config.depends_on.is_empty());
}

#[test]
fn every_key_arrives() {
    let vmfile = good("single");
    let [config] = vmfile.machines.as_slice() else { panic!("one machine") };
    assert_eq!(config.box_ref, BoxRef::File(PathBuf::from("/project/boxes/debian.box")));
    assert!(config.box_version.is_some());
    assert_eq!(config.provider, ProviderChoice::Container);
    assert_eq!((config.cpus, config.memory, config.disk), (Some(2), Some(3 << 29), Some(20 << 30)));
    assert_eq!(config.hostname, "dev.example.test");

    let forward = Forward {
        guest: 80,
        host: 8080,
        host_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        protocol: Protocol::Tcp,
        auto_correct: false,
        name: None,
    };
    let address = Ipv4Addr::new(192, 168, 56, 10);
    assert_eq!(
        config.networks,
        [
            Network::Forward(forward.clone()),
            Network::Forward(Forward {
                guest: 53,
                host: 5353,
                protocol: Protocol::Udp,
                name: Some("dns".to_owned()),
                ..forward.clone()
            }),
            Network::Forward(Forward { guest: 9090, host: 0, auto_correct: true, ..forward.clone() }),
            Network::Forward(Forward {
                guest: 443,
                host: 8443,
                host_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                auto_correct: true,
                name: Some("https".to_owned()),
                ..forward.clone()
            }),
            Network::Forward(Forward { guest: 22, host: 0, ..forward.clone() }),
            Network::Private(PrivateNetwork { name: "backend".to_owned(), ip: Some(address), prefix: 24 }),
            Network::Private(PrivateNetwork { name: "private".to_owned(), ip: None, prefix: 24 }),
            Network::Bridged(BridgedNetwork {
                interface: Some("eth0".to_owned()),
                ip: Some((Ipv4Addr::new(192, 168, 1, 50), 24)),
            }),
            Network::Bridged(BridgedNetwork { interface: None, ip: None }),
            Network::Forward(Forward { guest: 22, host: 2222, name: Some("ssh".to_owned()), ..forward }),
        ]
    );

    let folders: Vec<(&str, &str, bool, bool)> = config
        .synced_folders
        .iter()
        .map(|f| (f.source.to_str().unwrap(), f.target.to_str().unwrap(), f.read_only, f.create))
        .collect();
    assert_eq!(
        folders,
        [
            ("/project/src", "/srv/app", false, false),
            ("/home/me/data", "/srv/data", true, false),
            ("/project", "/srv/project", true, true),
        ]
    );

    assert_eq!(config.env["PORT"], "8080");
    assert_eq!(config.env["DEBUG"], "true");
    assert_eq!(config.env["EMPTY"], "");
    let health = config.healthcheck.as_ref().unwrap();
    assert_eq!(health.test, HealthTest::Http { port: 80, path: "/health?full=1".to_owned() });
    let times = [health.interval, health.timeout, health.start_timeout, config.graceful_timeout];
    assert_eq!(times.map(|time| time.as_millis()), [500, 3000, 90_000, 30_000]);
    assert_eq!(
        config.ssh,
        SshConfig {
            username: Some("admin".to_owned()),
            port: Some(2222),
            forward_agent: true,
            boot_timeout: Duration::from_secs(120)
        }
    );
    assert_eq!(config.post_up_message.as_deref(), Some("open http://localhost:8080\n"));
}

#[test]
fn steps_arrive_with_their_places() {
    let vmfile = good("single");
    let steps = &vmfile.machines[0].provision;
    let shell = |step: &Step| match &step.action {
        Action::Shell(shell) => shell.clone(),
        Action::File(_) => panic!("a shell step"),
    };
    assert_eq!(shell(&steps[0]).script, Script::Inline("apt-get update".to_owned()));
    assert!(shell(&steps[0]).privileged);
    assert_eq!(shell(&steps[1]).script, Script::Inline("set -eu\necho \"${HOME} $$ ${x:-y}\"\n".to_owned()));
    assert_eq!(
        shell(&steps[2]),
        Shell {
            script: Script::Path("/project/setup.sh".into()),
            args: ["--fast", "2", "true"].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            privileged: false,
        }
    );
    assert_eq!((steps[2].name.as_deref(), steps[2].run), (Some("setup"), RunWhen::Always));
    assert_eq!(shell(&steps[3]).args, ["one word", "two"]);
    assert_eq!(shell(&steps[3]).env["A"], "1");
    assert_eq!((steps[3].sensitive, steps[3].run), (true, RunWhen::Never));
    assert_eq!(
        steps[4].action,
        Action::File(FileCopy {
            source: "/project/nginx.conf".into(),
            destination: "~/nginx.conf".to_owned()
        })
    );
    let places: Vec<String> = steps.iter().map(|step| step.place.to_string()).collect();
    assert_eq!(places, [25, 27, 29, 30, 31].map(|line| format!("/project/Vmfile:{line}:5")));
}

#[test]
fn defaults_are_merged_into_each_machine() {
    let vmfile = good("machines");
    let names: Vec<&str> = vmfile.names().map(MachineName::as_str).collect();
    assert_eq!(names, ["web", "db", "cache", "idle"], "in file order");
    let (web, db, cache, idle) = (
        machine(&vmfile, "web"),
        machine(&vmfile, "db"),
        machine(&vmfile, "cache"),
        machine(&vmfile, "idle"),
    );
    assert_eq!((web.memory, db.memory), (Some(512 << 20), Some(2 << 30)), "single values replace");
    assert_eq!(
        web.env,
        BTreeMap::from([("TIER".into(), "web".into()), ("SHARED".into(), "yes please".into())])
    );
    assert_eq!(db.env["TIER"], "all", "maps are merged");
    let steps: Vec<_> = web.provision.iter().map(|step| step.name.as_deref().unwrap()).collect();
    assert_eq!(steps, ["update", "nginx"], "lists come after the defaults");
    assert_eq!(idle.provision.len(), 1);
    assert_eq!(idle.hostname, "idle");
    assert_eq!(idle.place.to_string(), "/project/Vmfile:25:3");
    let on = |config: &MachineConfig| config.depends_on.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (on(web), on(cache), on(db)),
        (vec!["db".to_owned(), "cache".to_owned()], vec!["db".to_owned()], vec![])
    );
    assert_eq!(cache.healthcheck.as_ref().unwrap().test, HealthTest::Command("redis-cli ping".to_owned()));
    assert_eq!(db.healthcheck.as_ref().unwrap().test, HealthTest::Tcp(5432));
}

#[test]
fn anchors_and_merge_keys_work() {
    let vmfile = good("anchors");
    assert_eq!((machine(&vmfile, "a").cpus, machine(&vmfile, "a").memory), (Some(4), Some(1 << 30)));
    assert_eq!((machine(&vmfile, "b").cpus, machine(&vmfile, "b").disk), (Some(2), Some(10 << 30)));
    for name in ["a", "b", "c"] {
        assert_eq!(machine(&vmfile, name).networks.len(), 1, "{name}");
    }
}

#[test]
fn parameters_come_from_the_command_line_or_their_defaults() {
    let text = "params:\n  php: \"8.2\"\n  cpus: { default: 2, description: how many }\n  user:\nbox: debian/12\n\
                cpus: ${param:cpus}\nenv: { PHP: \"php-${param:php}\", USER: \"${param:user}\" }\n";
    let vmfile = read(text, &[("user", "${env:NAME}"), ("php", "8.3")]).unwrap();
    let config = &vmfile.machines[0];
    assert_eq!(config.cpus, Some(2));
    assert_eq!(config.env["PHP"], "php-8.3");
    assert_eq!(config.env["USER"], "${env:NAME}", "what is put in is not read again");
    let told: Vec<_> =
        vmfile.params.iter().map(|p| (p.name.as_str(), p.value.as_str(), p.default.as_deref())).collect();
    assert_eq!(told, [("php", "8.3", Some("8.2")), ("cpus", "2", Some("2")), ("user", "${env:NAME}", None)]);
    assert_eq!(vmfile.params[1].description.as_deref(), Some("how many"));
    let faults = read(text, &[]).unwrap_err();
    let messages: Vec<&str> = faults.iter().map(|fault| fault.message.as_str()).collect();
    assert_eq!(messages, ["the parameter `user` has no value"], "told once, not at each use");
}

#[test]
fn the_environment_is_put_in() {
    let text = "box: debian/12\nenv:\n  A: ${env:NAME}\n  B: ${env:UNSET:-x y}\n  C: ${env:EMPTY:-filled}\n  \
                D: ${env:EMPTY}\n  E: $${env:NAME}\n  F: ${env:NAME:-no}\n";
    let env = only(text).env;
    let values: Vec<&str> = env.values().map(String::as_str).collect();
    assert_eq!(values, ["value", "x y", "filled", "", "${env:NAME}", "value"]);
}

#[test]
fn a_home_folder_is_only_asked_for_where_it_is_meant() {
    let env = |_: &str| None;
    let parse = |text: &str| {
        let inputs = Inputs { params: BTreeMap::new(), env: &env, project: "/p".into(), home: None };
        Vmfile::parse(text, Path::new("Vmfile"), &inputs)
    };
    assert!(parse("box: debian/12\nsynced_folders: [\"./~x:/srv\"]\n").is_ok());
    let faults = parse("box: ~/b.box\nsynced_folders: [\"~/x:/srv\"]\n").unwrap_err();
    assert_eq!(faults.len(), 2);
    assert!(faults.to_string().contains("there is no home folder"));
}

#[test]
fn large_files_and_other_encodings_are_refused() {
    let env = |_: &str| None;
    let inputs = Inputs { params: BTreeMap::new(), env: &env, project: "/p".into(), home: None };
    let told =
        |bytes: &[u8]| Vmfile::parse_bytes(bytes, Path::new("Vmfile"), &inputs).unwrap_err().to_string();

    let mut large = b"box: debian/12\n#".to_vec();
    large.resize(MAX_SIZE, b'x');
    assert!(Vmfile::parse_bytes(&large, Path::new("Vmfile"), &inputs).is_ok(), "just as large as it may be");
    large.push(b'x');
    assert!(told(&large).starts_with("Vmfile:1:1: the file is larger than 1 MiB"));

    assert!(told(b"box: debian/12\ncpus: \xe9\n").starts_with("Vmfile:2:7: the byte 0xe9 is no UTF-8"));
    let utf16: Vec<u8> = "\u{feff}box: x".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(told(&utf16).starts_with("Vmfile:1:1: the file is UTF-16"));
    assert!(Vmfile::parse_bytes(b"\xef\xbb\xbfbox: debian/12\n", Path::new("Vmfile"), &inputs).is_ok());
}

#[test]
fn a_file_is_read_no_further_than_it_may_be_long() {
    let env = |_: &str| None;
    let inputs = Inputs { params: BTreeMap::new(), env: &env, project: "/p".into(), home: None };
    let faults = Vmfile::load(Path::new("/dev/zero"), &inputs).unwrap().unwrap_err();
    assert!(faults.to_string().contains("larger than 1 MiB"));
    assert!(Vmfile::load(Path::new("/nonexistent/Vmfile"), &inputs).is_err());
}

/// Files that are small and come to much: each is refused for what it comes to, before it does.
#[test]
fn what_swells_is_refused() {
    let told = |text: &str| {
        let faults = read(text, &[]).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults}");
        faults.iter().next().unwrap().message.clone()
    };
    let long = "y".repeat(400_000);
    let aliases = format!("box: debian/12\nprovision: [&a '{long}', {}]\n", "*a, ".repeat(1000));
    assert!(told(&aliases).starts_with("the file holds more than"));
    let references =
        format!("params: {{ x: '{long}' }}\nbox: debian/12\nprovision: ['{}']\n", "${param:x} ".repeat(1000));
    assert_eq!(told(&references), "the references of this file come to more than 8 MiB of text");
    let forwards = "  - { forward: '80' }\n".repeat(1000);
    let machines: String = (0..1000).map(|n| format!("  m{n}:\n")).collect();
    let defaults = format!("box: debian/12\nnetworks:\n{forwards}machines:\n{machines}");
    assert!(
        told(&defaults).starts_with("what the top level gives each of 1000 machines comes to 1000000 values")
    );
}

#[test]
fn of_very_many_faults_the_first_are_told() {
    let keys: String = (0..150).map(|n| format!("k{n}: x\n")).collect();
    let faults = read(&format!("box: debian/12\n{keys}"), &[]).unwrap_err();
    assert_eq!((faults.len(), faults.more()), (MAX_FAULTS, 150 - MAX_FAULTS));
    assert!(faults.to_string().ends_with("/project/Vmfile: 50 more faults follow"));
    assert_eq!(faults.iter().next().unwrap().message, "a Vmfile has no key `k0`");
}

#[test]
fn faults_are_a_configuration_error_and_say_where() {
    let faults = read("box: debian/12\n\nénv: {}\ncpus: \"2\"\n", &[]).unwrap_err();
    assert_eq!(faults.kind(), FaultKind::Config);
    assert_eq!(
        faults.to_string(),
        "/project/Vmfile:3:1: a Vmfile has no key `énv`\n3 | énv: {}\n  | ^^^\n  = did you mean `env`?\n\n\
         /project/Vmfile:4:7: `cpus` is a number and must stand without quotes\n4 | cpus: \"2\"\n  |       ^^^\n  \
         = write `cpus: 2`"
    );
    let fault = faults.iter().next().unwrap();
    assert_eq!(&faults.source_text().text()[fault.span.clone()], "énv");
}
