//! Several processes, and their sudden ends.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};

use posada_fetch::{Client, Quiet, Request, Settings, Slot, Stop};

use crate::server::{Answer, Bench, Server, noise, sha256};

/// Where the child of a test finds what it is to fetch.
const URL: &str = "FETCH_TEST_URL";
const CACHE: &str = "FETCH_TEST_CACHE";

/// No test of its own: what the tests below run as another process.
#[test]
fn child() {
    let (Ok(url), Ok(cache)) = (std::env::var(URL), std::env::var(CACHE)) else { return };
    let client = Client::new(Settings { proxies: false, ..Settings::default() }).unwrap();
    let (url, stop) = (url.parse().unwrap(), Stop::default());
    let slot = Slot::open(&client, cache.as_ref(), &url, &|| {}, &stop).unwrap();
    let request = Request { url, checksum: None, limit: 1 << 30 };
    slot.fetch(&client, &request, &Quiet, &stop).unwrap();
}

fn spawn(bench: &Bench, server: &Server) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process::child"]).stdout(Stdio::null());
    command.env(URL, server.url.as_str()).env(CACHE, bench.cache.path()).spawn().unwrap()
}

#[test]
fn a_process_that_is_killed_leaves_what_came() {
    const SIZE: usize = 30 << 20;
    let content = noise(20, SIZE);
    let wanted = sha256(&content);
    // The second range keeps its client waiting, who is killed then.
    let reached = Arc::new(Barrier::new(2));
    let server = Server::start({
        let reached = reached.clone();
        move |asked| {
            let answer = Answer::good(&content, "\"one\"", asked);
            if asked.number == 1 {
                reached.wait();
                return Answer { hang: Some(8 << 20), ..answer };
            }
            answer
        }
    });
    let bench = Bench::new();
    let mut child = spawn(&bench, &server);
    reached.wait();
    // Until the journal has what was to come: the whole of the first range, and what came of the second.
    let journal = || {
        let path = bench.files().into_iter().find(|path| path.ends_with("journal.json"));
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    };
    while !journal().contains("\"came\":[[0,24]]") {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = server.seen().len();
    let got = bench.fetch(&server.url, Some(&wanted)).unwrap();
    assert_eq!(got.size, SIZE as u64);
    let asked: Vec<_> = server.seen()[before..].iter().filter_map(|asked| asked.range()).collect();
    assert_eq!(asked, [(24 << 20, (30 << 20) - 1)], "from where it was killed");
}

#[test]
fn two_processes_share_one_transfer() {
    let content = noise(21, 3 << 20);
    let reached = Arc::new(Barrier::new(2));
    let go = Arc::new(Barrier::new(2));
    let server = Server::start({
        let (reached, go) = (reached.clone(), go.clone());
        move |asked| {
            if asked.number == 0 {
                reached.wait();
                go.wait();
            }
            Answer::good(&content, "\"one\"", asked)
        }
    });
    let bench = Bench::new();
    let mut child = spawn(&bench, &server);
    reached.wait();
    let (url, stop) = (server.url.clone(), Stop::default());
    // It is told that somebody else is at it; then that one may go on.
    let waiting = || {
        go.wait();
    };
    let slot = Slot::open(&bench.client, bench.cache.path(), &url, &waiting, &stop).unwrap();
    assert!(child.wait().unwrap().success());
    let request = Request { url, checksum: None, limit: 1 << 30 };
    slot.fetch(&bench.client, &request, &Quiet, &stop).unwrap();
    assert_eq!(server.seen().len(), 1);
    slot.clear().unwrap();
    assert!(bench.files().is_empty());
}

#[test]
fn waiting_for_another_can_be_ended() {
    let (bench, url) = (Bench::new(), "http://127.0.0.1:1/x".parse().unwrap());
    let held = bench.slot(&url);
    let stop = Stop::default();
    let waiting = Slot::open(&bench.client, bench.cache.path(), &url, &|| stop.stop(), &stop);
    assert!(matches!(waiting, Err(posada_fetch::FetchError::Cancelled)));
    held.clear().unwrap();
}
