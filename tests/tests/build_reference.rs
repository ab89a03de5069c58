//! Boxes by recipe: `build:…` in a Vmfile and on the command line.

use posada_tests::Sandbox;
use posada_tests::sandbox::Caller;

#[test]
fn what_was_built_by_this_recipe_is_taken() {
    let sandbox = Sandbox::with("box: build:debian/12\nprovider: container\n");
    let up = sandbox.ok(&["up"]);
    assert!(!up.stderr.contains("mmdebstrap"), "it was built before: {up}");
    assert_eq!(sandbox.inside("whoami"), "posada");
}

#[test]
fn a_recipe_of_the_projects_is_built_once() {
    let sandbox = Sandbox::bare(Caller::Root);
    sandbox.file(
        "recipes/mine.yaml",
        "name: mine/web\nextends: debian/12\ncommands: [\"echo built >/srv/mine\"]\n",
    );
    sandbox.vmfile("box: build:./recipes/mine.yaml\nprovider: container\n");
    sandbox.ok(&["up"]);
    assert_eq!(sandbox.inside("cat /srv/mine"), "built");
    let boxes = sandbox.json(&["box", "list"]);
    let built: Vec<_> = boxes.iter().filter(|event| event["event"] == "box").collect();
    assert_eq!((built.len(), built[0]["name"].as_str()), (1, Some("mine/web")), "{boxes:?}");
    let lock = std::fs::read_to_string(sandbox.project().join("Vmfile.lock")).expect("a lock file");
    assert!(lock.contains("\"build:./recipes/mine.yaml\""), "{lock}");

    // From another directory, and as a box by itself: it is there.
    let mut below = sandbox.posada();
    below.current_dir(sandbox.project().join("recipes"));
    let added = posada_tests::sandbox::run(
        below,
        &["box", "add", "build:./mine.yaml", "--provider", "container", "--json"],
    )
    .ok();
    assert!(added.stdout.contains(built[0]["digest"].as_str().expect("a digest")), "{added}");
    sandbox.ok(&["up", "--locked"]);
}

#[test]
fn recipes_that_are_none_are_told() {
    let sandbox = Sandbox::bare(Caller::Root);
    sandbox.vmfile("box: build:debian/99\nprovider: container\n");
    sandbox.run(&["up"]).ended_with(2).says("there is no recipe `debian/99`").says("debian/12");
    sandbox.vmfile("box: build:./nothing.yaml\nprovider: container\n");
    sandbox.run(&["up"]).ended_with(4).says("nothing.yaml");
}
