//! Whatever the server and the line do: the file arrives whole, or what is wrong is said and nothing wrong is kept.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use posada_fetch::FetchError;

use crate::server::{Answer, Bench, Server, noise, sha256};

const SIZE: usize = 40_000_001;
const TAG: &str = "\"one\"";

#[test]
fn a_large_file_comes_in_several_ranges_at_once() {
    let content = noise(1, SIZE);
    let wanted = sha256(&content);
    let server = Server::start({
        let content = content.clone();
        move |asked| Answer::good(&content, TAG, asked)
    });
    let bench = Bench::new();
    let slot = bench.slot(&server.url);
    let request = posada_fetch::Request {
        url: server.url.clone(),
        checksum: Some(wanted.parse().unwrap()),
        limit: 1 << 30,
    };
    let got = slot.fetch(&bench.client, &request, &bench.told, &bench.stop).unwrap();
    assert_eq!(got.size, SIZE as u64);
    assert!(std::fs::read(&got.path).unwrap() == content);
    assert_eq!(bench.told.came.load(Ordering::Relaxed), SIZE as u64);
    assert_eq!(server.seen().len(), SIZE.div_ceil(16 << 20));
    // What was fetched and not used yet is not fetched again.
    assert_eq!(slot.fetch(&bench.client, &request, &bench.told, &bench.stop).unwrap(), got);
    assert_eq!(server.seen().len(), SIZE.div_ceil(16 << 20));
    slot.clear().unwrap();
    assert_eq!(bench.files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn small_and_empty_files_come_too() {
    for content in [&b""[..], b"x"] {
        let wanted = sha256(content);
        for ranges in [true, false] {
            let server = Server::start(move |asked| {
                if ranges { Answer::good(content, TAG, asked) } else { Answer::whole(content) }
            });
            let got = Bench::new();
            let got = got.fetch(&server.url, Some(&wanted)).map(|got| std::fs::read(got.path).unwrap());
            assert_eq!(got.unwrap(), content);
        }
    }
}

#[test]
fn connections_that_break_are_gone_on_with() {
    let content = noise(2, SIZE);
    let wanted = sha256(&content);
    // Each range breaks once, after some megabytes.
    let server = Server::start(move |asked| {
        let answer = Answer::good(&content, TAG, asked);
        if asked.number < 3 { Answer { cut: Some(3_500_000), ..answer } } else { answer }
    });
    let bench = Bench::new();
    bench.fetch(&server.url, Some(&wanted)).unwrap();
    let asked: u64 =
        server.seen().iter().filter_map(|asked| asked.range()).map(|(first, last)| last - first + 1).sum();
    assert!(asked < SIZE as u64 + (48 << 20), "what came is not asked for again: {asked}");
    assert_eq!(bench.told.came.load(Ordering::Relaxed), SIZE as u64, "and is counted once");
    let notes = bench.told.notes.lock().unwrap();
    assert!(notes.iter().any(|note| note.contains("broke off after")), "{notes:?}");
}

#[test]
fn another_process_goes_on_where_one_was_ended() {
    let content = noise(3, SIZE);
    let wanted = sha256(&content);
    let broken = Mutex::new(true);
    let server = Server::start(move |asked| {
        let answer = Answer::good(&content, TAG, asked);
        // The first time, nothing comes behind the first 20 MiB; whoever asks waits in vain.
        match asked.range() {
            Some((first, _)) if first >= 16 << 20 && *broken.lock().unwrap() => {
                if first >= 32 << 20 {
                    *broken.lock().unwrap() = false;
                }
                Answer { hang: Some(4 << 20), ..answer }
            }
            _ => answer,
        }
    });
    let bench = Bench::impatient();
    // Ended by the user once all that comes has come.
    std::thread::scope(|scope| {
        let fetching = scope.spawn(|| bench.fetch(&server.url, Some(&wanted)));
        while bench.told.came.load(Ordering::Relaxed) < 20 << 20 {
            std::thread::yield_now();
        }
        bench.stop.stop();
        assert!(matches!(fetching.join().unwrap(), Err(FetchError::Cancelled)));
    });
    let before = server.seen().len();
    let again = Bench { stop: posada_fetch::Stop::default(), ..bench };
    let got = again.fetch(&server.url, Some(&wanted)).unwrap();
    assert_eq!(got.size, SIZE as u64);
    assert!(again.told.have.load(Ordering::Relaxed) >= 20 << 20);
    let asked: u64 = server.seen()[before..]
        .iter()
        .filter_map(|asked| asked.range())
        .map(|(first, last)| last - first + 1)
        .sum();
    assert!(asked <= SIZE as u64 - (20 << 20) + (1 << 20), "{asked}");
    assert!(server.seen()[before..].iter().all(|asked| asked.headers["if-range"] == TAG));
}

#[test]
fn a_file_that_changes_in_between_is_never_mixed() {
    let (old, new) = (noise(4, SIZE), noise(5, SIZE));
    let wanted = sha256(&new);
    // The file becomes another one after two ranges; with no regard for `If-Range` the second time round.
    for heeds in [true, false] {
        let (old, new) = (old.clone(), new.clone());
        let server = Server::start(move |asked| {
            let (content, tag) = if asked.number < 2 { (&old, "\"old\"") } else { (&new, "\"new\"") };
            let mut asked = asked.clone();
            if !heeds {
                asked.headers.remove("if-range");
            }
            Answer::good(content, tag, &asked)
        });
        let bench = Bench::new();
        let got = bench.fetch(&server.url, None).unwrap();
        assert_eq!(sha256(&std::fs::read(got.path).unwrap()), wanted, "{heeds}");
        assert!(bench.told.notes.lock().unwrap().iter().any(|note| note.contains("has changed")));
    }
}

#[test]
fn a_file_that_never_stays_the_same_is_given_up() {
    let content = noise(6, SIZE);
    let server = Server::start(move |asked| {
        let mut plain = asked.clone();
        plain.headers.remove("if-range");
        Answer::good(&content, &format!("\"{}\"", asked.number), &plain)
    });
    let error = Bench::new().fetch(&server.url, None).unwrap_err();
    assert!(matches!(error, FetchError::Changes { .. }), "{error:?}");
}

#[test]
fn what_has_the_wrong_checksum_is_not_kept() {
    let content = noise(7, 3_000_000);
    let wanted = sha256(b"something else");
    for ranges in [true, false] {
        let content = content.clone();
        let server =
            Server::start(
                move |asked| {
                    if ranges { Answer::good(&content, TAG, asked) } else { Answer::whole(&content) }
                },
            );
        let bench = Bench::new();
        let error = bench.fetch(&server.url, Some(&wanted)).unwrap_err();
        assert!(matches!(error, FetchError::Mismatch { .. }), "{error:?}");
        let left: Vec<_> = bench.files().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(left, ["lock"], "{ranges}");
    }
}

#[test]
fn a_server_without_ranges_is_asked_again_from_the_start() {
    let content = noise(8, 3_000_000);
    let wanted = sha256(&content);
    let server = Server::start(move |asked| {
        let answer = Answer::whole(&content);
        if asked.number == 0 { Answer { cut: Some(2_000_000), ..answer } } else { answer }
    });
    let bench = Bench::new();
    let got = bench.fetch(&server.url, Some(&wanted)).unwrap();
    assert_eq!((got.size, server.seen().len()), (3_000_000, 2));
}

#[test]
fn a_server_that_falls_silent_is_asked_again() {
    let content = noise(9, 3_000_000);
    let wanted = sha256(&content);
    let server = Server::start(move |asked| {
        let answer = Answer::good(&content, TAG, asked);
        if asked.number == 0 { Answer { hang: Some(2_500_000), ..answer } } else { answer }
    });
    let bench = Bench::impatient();
    bench.fetch(&server.url, Some(&wanted)).unwrap();
    assert_eq!(server.seen()[1].range().unwrap().0, 2 << 20, "from the last whole block on");
    assert!(bench.told.notes.lock().unwrap()[0].contains("nothing came"));
}

#[test]
fn a_server_that_is_busy_is_obeyed() {
    let content = noise(10, 1000);
    let server = Server::start(move |asked| match asked.number {
        0 => Answer::new(503).header("retry-after", 0),
        1 => Answer::new(429).header("retry-after", 0),
        _ => Answer::good(&content, TAG, asked),
    });
    Bench::new().fetch(&server.url, None).unwrap();
    assert_eq!(server.seen().len(), 3);
    let server = Server::start(|_| Answer::new(503).header("retry-after", 86_400));
    let error = Bench::new().fetch(&server.url, None).unwrap_err();
    assert!(matches!(&error, FetchError::Status { status: 503, .. }), "{error:?}");
}

#[test]
fn what_will_not_pass_is_told_at_once() {
    for (status, fits) in [
        (401, (|error| matches!(error, FetchError::Refused { token: false, .. })) as fn(&FetchError) -> bool),
        (403, |error| matches!(error, FetchError::Refused { .. })),
        (404, |error| matches!(error, FetchError::NotFound { .. })),
        (410, |error| matches!(error, FetchError::NotFound { .. })),
        (400, |error| matches!(error, FetchError::Status { .. })),
    ] {
        let server = Server::start(move |_| Answer::new(status));
        let error = Bench::new().fetch(&server.url, None).unwrap_err();
        assert!(fits(&error), "{status}: {error:?}");
        assert_eq!(server.seen().len(), 1, "{status}");
    }
}

#[test]
fn circles_and_absurd_sizes_end() {
    let server = Server::start(|asked| Answer::new(302).header("location", format!("/{}", asked.number)));
    let error = Bench::new().fetch(&server.url, None).unwrap_err();
    assert!(error.to_string().contains("without an end"), "{error}");
    assert_eq!(server.seen().len(), 11);

    let absurd = |asked: &crate::server::Asked| {
        let (first, last) = asked.range().unwrap();
        Answer::new(206).header("content-range", format!("bytes {first}-{last}/{}", u64::MAX))
    };
    let server = Server::start(absurd);
    let error = Bench::new().fetch(&server.url, None).unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error:?}");
    // One that does not say how much comes is stopped when it is too much.
    let server = Server::start(|_| Answer { body: vec![0; 2_000_000], ..Answer::new(200) });
    let error = Bench::new().fetch_at_most(&server.url, None, 1_000_000).unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error:?}");
    let server = Server::start(|asked| {
        let (first, last) = asked.range().unwrap();
        Answer::new(206).header("content-range", format!("bytes {}-{}/{}", first + 1, last + 1, 1 << 25))
    });
    let error = Bench::new().fetch(&server.url, None).unwrap_err();
    assert!(matches!(error, FetchError::Nonsense { .. }), "{error:?}");
}

#[test]
fn a_token_is_shown_to_its_own_server_only() {
    let other = Server::start(|asked| {
        assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
        Answer::whole(b"x")
    });
    let elsewhere = other.url.clone();
    let server = Server::start(move |_| Answer::new(302).header("location", &elsewhere));
    let token = posada_fetch::Token { server: server.url.clone(), secret: "secret".to_owned().into() };
    let settings =
        posada_fetch::Settings { proxies: false, tokens: vec![token], ..posada_fetch::Settings::default() };
    Bench::with(settings).fetch(&server.url, None).unwrap();
    assert_eq!(server.seen()[0].headers["authorization"], "Bearer secret");
    assert_eq!(other.seen().len(), 1);
}

#[test]
fn what_nobody_goes_on_with_is_swept_and_what_somebody_holds_is_not() {
    let content = noise(1, 100);
    let server = Server::start(move |asked| Answer::good(&content, TAG, asked));
    let bench = Bench::new();
    bench.fetch(&server.url, None).unwrap();
    let sweep = |idle| posada_fetch::Slot::sweep(bench.cache.path(), idle).unwrap();
    assert_eq!(sweep(std::time::Duration::from_secs(3600)), 0, "it is young");
    let held = bench.slot(&server.url);
    assert_eq!(sweep(std::time::Duration::ZERO), 0, "it is held");
    drop(held);
    assert_eq!(sweep(std::time::Duration::ZERO), 1);
    assert_eq!(bench.files(), Vec::<std::path::PathBuf>::new());
    assert_eq!(
        posada_fetch::Slot::sweep(&bench.cache.path().join("none"), std::time::Duration::ZERO).unwrap(),
        0
    );
}

/// Which bytes are there, and in which file.
#[derive(Default)]
struct Watch {
    part: Mutex<Option<std::sync::Arc<std::fs::File>>>,
    there: Mutex<Vec<std::ops::Range<u64>>>,
}

impl posada_fetch::Progress for Watch {
    fn begin(&self, _: Option<u64>, _: u64) {
        self.there.lock().unwrap().clear();
    }
    fn came(&self, _: u64) {}
    fn note(&self, _: &str) {}
    fn grows(&self, part: &std::sync::Arc<std::fs::File>) {
        *self.part.lock().unwrap() = Some(part.clone());
    }
    fn there(&self, bytes: std::ops::Range<u64>) {
        self.there.lock().unwrap().push(bytes);
    }
}

#[test]
fn who_reads_along_is_told_of_all_bytes_also_of_those_that_came_earlier() {
    use std::os::unix::fs::FileExt as _;
    let content = noise(1, SIZE);
    let kept = content.clone();
    let server = Server::start(move |asked| Answer::good(&kept, TAG, asked));
    let bench = Bench::new();
    let request = posada_fetch::Request { url: server.url.clone(), checksum: None, limit: 1 << 30 };
    let watch = Watch::default();
    let slot = bench.slot(&server.url);
    slot.fetch(&bench.client, &request, &watch, &bench.stop).unwrap();
    let (part, mut there) = (watch.part.into_inner().unwrap().unwrap(), watch.there.into_inner().unwrap());
    for bytes in &there {
        let mut read = vec![0; (bytes.end - bytes.start) as usize];
        part.read_exact_at(&mut read, bytes.start).unwrap();
        assert!(read == content[bytes.start as usize..bytes.end as usize]);
    }
    there.sort_by_key(|bytes| bytes.start);
    let end = there.iter().fold(0, |end, bytes| {
        assert_eq!(bytes.start, end, "each byte once, and none left out");
        bytes.end
    });
    assert_eq!(end, SIZE as u64);
}
