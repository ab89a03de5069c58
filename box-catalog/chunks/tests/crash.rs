//! What a process leaves that is killed while it adds, or beside others that add the same.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};
use posada_chunks::{ChunkStore, Digest, Error};

const NEVER: &(dyn Fn() -> bool + Sync) = &|| false;
const CHUNKS: u64 = 60;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, word, root] = &args[..]
        && word == "add"
    {
        add(Path::new(root));
        return ExitCode::SUCCESS;
    }
    let trials = vec![
        Trial::test("killed_anywhere_and_run_again", || {
            killed();
            Ok(())
        }),
        Trial::test("many_processes_add_the_same", || {
            many();
            Ok(())
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn content(index: u64) -> Vec<u8> {
    let mut bytes = vec![0; 20_000];
    blake3::Hasher::new().update(&index.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The child: tells each step.
#[expect(clippy::print_stdout, reason = "the parent goes by it")]
fn add(root: &Path) {
    let store = ChunkStore::open(root).unwrap();
    let adder = store.adder().unwrap();
    for index in 0..CHUNKS {
        adder.put(&content(index)).unwrap();
        println!("put");
    }
    let kept = adder.commit().unwrap();
    println!("committed");
    drop(kept);
}

fn child(root: &Path) -> Child {
    let exe = std::env::current_exe().unwrap();
    Command::new(exe).arg("add").arg(root).stdout(Stdio::piped()).spawn().unwrap()
}

fn whole(store: &ChunkStore) {
    assert_eq!(store.fsck(&|_| {}, NEVER).unwrap().damaged, []);
    let there: HashSet<Digest> = store.list().unwrap().into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(there, (0..CHUNKS).map(|index| Digest::of(&content(index))).collect());
}

fn killed() {
    // The last of them is killed while it commits, or after.
    for steps in [1, 2, CHUNKS / 2, CHUNKS] {
        let dir = tempfile::tempdir().unwrap();
        let mut adding = child(dir.path());
        let lines = BufReader::new(adding.stdout.take().unwrap()).lines();
        assert_eq!(lines.take(steps as usize).filter(|line| line.is_ok()).count() as u64, steps);
        adding.kill().unwrap();
        adding.wait().unwrap();
        let store = ChunkStore::open(dir.path()).unwrap();
        assert_eq!(store.fsck(&|_| {}, NEVER).unwrap().damaged, [], "what has a name is whole");
        if steps < CHUNKS {
            assert!(store.list().unwrap().is_empty());
            assert_eq!(fs::read_dir(dir.path().join("adding")).unwrap().count(), 1);
        }
        // Nobody holds a lock any more, and the next one clears up.
        store.gc(false, || Ok::<_, Error>(HashSet::new())).unwrap();
        assert!(child(dir.path()).wait_with_output().unwrap().status.success());
        assert_eq!(fs::read_dir(dir.path().join("adding")).unwrap().count(), 0);
        whole(&store);
    }
}

fn many() {
    let dir = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..6).map(|_| child(dir.path())).collect();
    let store = ChunkStore::open(dir.path()).unwrap();
    // What is in use is never collected under those who work.
    let live = || Ok::<_, Error>((0..CHUNKS).map(|index| Digest::of(&content(index))).collect());
    for child in children {
        store.gc(false, live).unwrap();
        assert!(child.wait_with_output().unwrap().status.success());
    }
    whole(&store);
    std::io::stdout().flush().unwrap();
}
