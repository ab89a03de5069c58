//! The commands that need no machine, as a user runs them: help, exit statuses, errors, JSON lines.

use crate::support::Place;
use snapbox::str;

#[test]
fn help_lists_the_commands() {
    let place = Place::new();
    place.posada(&["-h"]).success().stdout_eq(str![[r#"
Developer machines from one file

Usage: posada [OPTIONS] <COMMAND>

Commands:
...
  up             Start machines, making and provisioning them where that is still to be done
...
"#]]);
    place.posada(&["help"]).success().stdout_eq(str![[r#"
...
Exit status:
    0  done
...
"#]]);
}

#[test]
fn every_command_has_help() {
    let place = Place::new();
    for command in [
        "init",
        "up",
        "ssh",
        "status",
        "halt",
        "destroy",
        "reload",
        "provision",
        "suspend",
        "resume",
        "snapshot",
        "port",
        "log",
        "console",
        "ssh-config",
        "global-status",
        "validate",
        "schema",
        "box",
        "doctor",
        "completions",
        "version",
        "man",
    ] {
        let help = place.text(place.posada(&["help", command]).success());
        assert!(help.contains(&format!("Usage: posada {command}")), "{help}");
    }
}

#[test]
fn version_in_each_of_its_forms() {
    let place = Place::new();
    let version = format!("posada {}\n", env!("CARGO_PKG_VERSION"));
    place.posada(&["version"]).success().stdout_eq(version.clone());
    place.posada(&["--version"]).success().stdout_eq(version);
    let events = place.events(place.posada(&["version", "--json"]).success());
    assert_eq!(events[0]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_word_that_is_no_command_is_told() {
    let place = Place::new();
    place.posada(&["upp"]).code(2).stdout_eq("").stderr_eq(str![[r#"
error: unrecognized subcommand 'upp'

  tip: a similar subcommand exists: 'up'

Usage: posada [OPTIONS] <COMMAND>

For more information, try '--help'.

"#]]);
    let events = place.events(place.posada(&["--json", "upp"]).code(2));
    assert_eq!(events[0]["event"], "error");
    assert_eq!(events[0]["message"], "unrecognized subcommand 'upp'");
}

#[test]
fn no_vmfile_says_how_to_make_one() {
    let place = Place::new();
    for command in ["up", "status", "validate", "halt", "ssh"] {
        let told = place.errors(place.posada(&[command]).code(3));
        assert!(told.starts_with("error: no Vmfile in "), "{told}");
        assert!(told.contains("hint: make one with `posada init`"), "{told}");
    }
}

#[test]
fn init_then_validate() {
    let place = Place::new();
    place.posada(&["init"]).success();
    place.posada(&["validate"]).success().stdout_eq(str![[r#"
✔ [..]/Vmfile is sound: 1 machine ([..])

"#]]);
    let told = place.errors(place.posada(&["init"]).code(2));
    assert!(told.contains("is there already"), "{told}");
    place.posada(&["init", "--force", "--minimal", "--box", "debian/13"]).success();
    assert!(place.read("Vmfile").contains("box: debian/13"));
    place.posada(&["init", "--force", "--several"]).success();
    let events = place.events(place.posada(&["validate", "--json"]).success());
    assert_eq!(events[0]["event"], "valid");
    assert_eq!(events[0]["machines"].as_array().unwrap().len(), 2);
    place.posada(&["init", "--box", "no such box!"]).code(2);
}

#[test]
fn every_fault_of_a_vmfile_is_shown_with_its_line() {
    let place = Place::new();
    place.write(
        "Vmfile",
        "box: debian/12\ncpu: 3\nmemory: lots\nmachines:\n  web: {}\n  db:\n    depends_on: [wbe]\n",
    );
    let told = place.errors(place.posada(&["validate"]).code(3));
    for line in
        ["Vmfile:2:1]", "2 │ cpu: 3", "help: did you mean `cpus`?", "Vmfile:3:", "wbe", "did you mean `web`?"]
    {
        assert!(told.contains(line), "{line} in {told}");
    }
    assert!(told.trim_end().ends_with("/Vmfile"), "{told}");
    let events = place.events(place.posada(&["validate", "--json"]).code(3));
    let faults = events[0]["faults"].as_array().unwrap();
    assert!(faults.len() >= 3, "{faults:?}");
    assert_eq!(faults[0]["line"], 2);
    assert_eq!(faults[0]["hint"], "did you mean `cpus`?");
}

#[test]
fn parameters_reach_the_vmfile() {
    let place = Place::new();
    place.write("Vmfile", "params: {size: 1G}\nbox: debian/12\nmemory: ${param:size}\n");
    place.posada(&["validate", "--param", "size=2G"]).success();
    place.posada(&["validate", "--param", "size=huge"]).code(3);
    place.posada(&["validate", "--param", "size"]).code(2);
    place.posada(&["validate", "--param", "size=1G", "--param", "size=2G"]).code(2);
}

#[test]
fn the_vmfile_is_found_from_below_and_by_name() {
    let place = Place::new();
    place.write("Vmfile", "box: debian/12\n");
    place.write("a/b/other", "box: nothing here\n");
    place.posada_in("a/b", &["validate"]).success();
    place.posada(&["--vmfile", "a/b/other", "validate"]).code(3);
    place.posada(&["--vmfile", "nowhere", "validate"]).code(4);
}

#[test]
fn completions_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.text(place.posada(&["completions", shell]).success());
        assert!(script.contains("global-status"), "{shell}");
    }
    let script = place.text(place.posada(&["completions", "bash"]).success());
    place.write("completions", &script);
    let checked =
        std::process::Command::new("bash").arg("-n").arg(place.path("completions")).status().unwrap();
    assert!(checked.success(), "bash reads it");
    place.posada(&["completions", "tcsh"]).code(2);
}

#[test]
fn the_schema_is_json() {
    let place = Place::new();
    let schema: serde_json::Value =
        serde_json::from_str(&place.text(place.posada(&["schema"]).success())).unwrap();
    assert!(schema["$schema"].is_string());
    let events = place.events(place.posada(&["schema", "--json"]).success());
    assert_eq!(events[0]["schema"], schema);
}

#[test]
fn status_of_what_was_never_made() {
    let place = Place::new();
    place.write("Vmfile", "machines:\n  web: {box: debian/12}\n  db: {box: debian/12}\n");
    place.posada(&["status"]).success().stdout_eq("web  not created\ndb   not created\n");
    place.posada(&["status", "db"]).success().stdout_eq("db  not created\n");
    let told = place.errors(place.posada(&["status", "wbe"]).code(2));
    assert!(told.contains("there is no machine `wbe`") && told.contains("did you mean `web`?"), "{told}");
    let events = place.events(place.posada(&["status", "--json"]).success());
    assert_eq!(events[0]["event"], "machine_status");
    assert_eq!(events[0]["state"], "absent");
    assert_eq!(events.len(), 3, "two machines and the end");
}

#[test]
fn what_is_to_be_destroyed_needs_an_answer() {
    let place = Place::new();
    place.write("Vmfile", "box: debian/12\n");
    place.posada(&["destroy"]).success().stderr_eq("there is nothing to destroy\n");
    place.posada(&["destroy", "--id", "nonsense"]).code(2);
    place.posada(&["destroy", "-f", "--id", "web-00000000"]).code(2);
}

#[test]
fn boxes_that_are_not_there() {
    let place = Place::new();
    place.write("Vmfile", "box: debian/12\n");
    place.posada(&["box", "list"]).success().stdout_eq("");
    let told = place.errors(place.posada(&["up"]).code(7));
    assert!(told.contains("hint: build it with `posada box build debian/12`"), "{told}");
    place.posada(&["box", "remove", "debian/12"]).code(7);
    place.posada(&["box", "build", "no/such"]).code(2);
}

#[test]
fn what_cannot_be_json_lines_says_so() {
    let place = Place::new();
    place.write("Vmfile", "box: debian/12\n");
    let events = place.events(place.posada(&["console", "--json"]).code(2));
    assert_eq!(events[0]["message"], "a console cannot be JSON lines");
}

#[test]
fn doctor_checks_everything() {
    let place = Place::new();
    // What is wrong with the host that runs the tests is not ours to say; that each check is told is.
    let output = place.command(&["doctor", "--json"]).output().unwrap();
    let events = crate::support::parse(&output.stdout);
    let names: Vec<&str> = events.iter().filter_map(|event| event["name"].as_str()).collect();
    assert_eq!(
        names,
        [
            "kvm",
            "user namespaces",
            "subordinate ids",
            "overlayfs",
            "cgroups",
            "/dev/net/tun",
            "disk space",
            "ssh",
            "mmdebstrap",
        ]
    );
    for event in events.iter().filter(|event| event["event"] == "check" && event["verdict"] != "ok") {
        assert!(event["remedy"].is_string(), "{event}");
    }
}

#[test]
fn a_reader_that_leaves_is_no_fault() {
    let place = Place::new();
    for words in ["schema", "completions zsh", "man", "schema --json"] {
        let script = format!(
            "exec 3>&1; {{ '{}' {words} 2>&1 >&4; echo \"status $?\"; }} 4>&1 >&3 | head -c 1 >/dev/null",
            place.binary()
        );
        let output = std::process::Command::new("bash").arg("-c").arg(&script).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "status 0\n", "{words}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[test]
fn colours_only_where_they_are_wanted() {
    let place = Place::new();
    place.write("Vmfile", "box: debian/12\n");
    let plain = place.text(place.posada(&["validate"]).success());
    assert!(!plain.contains('\u{1b}'));
    let colored = place.text(place.posada(&["validate", "--color", "always"]).success());
    assert!(colored.contains("\u{1b}["), "{colored:?}");
    place.posada(&["validate", "--color", "sometimes"]).code(2);
}

#[test]
fn quiet_keeps_results_and_errors() {
    let place = Place::new();
    place.posada(&["init", "--quiet"]).success().stdout_eq("").stderr_eq("");
    place.posada(&["status", "--quiet"]).success().stdout_eq("[..]not created[..]\n...\n");
    place.posada(&["up", "--quiet", "--verbose"]).code(2);
}
