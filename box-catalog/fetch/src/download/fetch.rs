//! The transfer itself.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderName, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{Response, StatusCode};
use rustix::fs::FallocateFlags;

use super::follow::Follower;
use super::journal::{BLOCK, Journal, Version, this_boot};
use super::{Downloaded, Request};
use crate::{Client, FetchError, Progress, Stop, shown};

/// How many ranges are fetched at once.
const AT_ONCE: usize = 4;
/// Blocks that are asked for in one go.
const SEGMENT: u64 = 16;
/// How often a file may change while it is fetched.
const CHANGES: usize = 3;

/// Fetches what is missing of `request` into `directory`.
pub(super) fn fetch(
    client: &Client,
    directory: &Path,
    request: &Request,
    progress: &dyn Progress,
    stop: &Stop,
) -> Result<Downloaded, FetchError> {
    let whole = directory.join("whole");
    match whole.metadata() {
        // Fetched by a process that did not come to use it.
        Ok(metadata) => return Ok(Downloaded { path: whole, size: metadata.len() }),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(FetchError::io("read", whole, error)),
    }
    let part = directory.join("part");
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&part);
    let file = Arc::new(open.map_err(|error| FetchError::io("open", &part, error))?);
    progress.grows(&file);
    let place = Place { part, journal: directory.join("journal.json"), whole };
    client.run(stop, Fetch { client, request, progress, file, place }.run())
}

/// What ends a transfer before its end.
#[derive(Debug)]
enum End {
    Failed(FetchError),
    /// What comes is of another version of the file than what came.
    Changed,
}

impl From<FetchError> for End {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

struct Place {
    part: PathBuf,
    journal: PathBuf,
    whole: PathBuf,
}

struct Fetch<'a> {
    client: &'a Client,
    request: &'a Request,
    progress: &'a dyn Progress,
    file: Arc<File>,
    place: Place,
}

impl Fetch<'_> {
    async fn run(self) -> Result<Downloaded, FetchError> {
        let mut prior = self.prior();
        for _ in 0..CHANGES {
            match self.attempt(prior.take()).await {
                Ok(size) => {
                    let synced = self.file.sync_all();
                    synced.map_err(|error| FetchError::io("write", &self.place.part, error))?;
                    fs_err::rename(&self.place.part, &self.place.whole)
                        .map_err(|error| FetchError::io("keep", &self.place.part, error))?;
                    return Ok(Downloaded { path: self.place.whole, size });
                }
                Err(End::Failed(error)) => return Err(error),
                Err(End::Changed) => {
                    self.progress.note("the file on the server has changed: fetching it anew")
                }
            }
        }
        Err(FetchError::Changes { url: self.shown() })
    }

    /// What came before, where it can be gone on with: by a checksum or by what the server says, parts of two versions of a
    /// file must be told from one.
    fn prior(&self) -> Option<Journal> {
        let prior = Journal::read(&self.place.journal, this_boot())?;
        let told = self.request.checksum.is_some() || prior.version.validator.is_some();
        let there = self.file.metadata().is_ok_and(|metadata| metadata.len() >= prior.version.size);
        (told && there).then_some(prior)
    }

    async fn attempt(&self, prior: Option<Journal>) -> Result<u64, End> {
        let mut patience = self.client.patience();
        loop {
            if let Some(prior) = prior.as_ref().filter(|prior| prior.is_complete()) {
                return self.finish_ranges(Ranges::new(self, prior.clone())?).await;
            }
            let segment =
                prior.as_ref().and_then(|prior| prior.missing(&[], SEGMENT)).unwrap_or((0, SEGMENT));
            let validator = prior.as_ref().and_then(|prior| prior.version.validator.as_deref());
            let answer = match self.ask(segment, validator).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.wait(&mut patience, error).await?;
                    continue;
                }
            };
            return match answer.status() {
                StatusCode::PARTIAL_CONTENT => {
                    let (start, version) = self.version(&answer)?;
                    let journal = match prior {
                        Some(prior) if prior.version != version => return Err(End::Changed),
                        Some(prior) => prior,
                        None => Journal::new(version, this_boot()),
                    };
                    if start != segment.0 * BLOCK {
                        return Err(self.nonsense("sends another part than was asked for").into());
                    }
                    let segment = (segment.0, segment.1.min(journal.version.size.div_ceil(BLOCK)));
                    let ranges = Ranges::new(self, journal)?;
                    ranges.run(answer, segment).await?;
                    self.finish_ranges(ranges).await
                }
                StatusCode::RANGE_NOT_SATISFIABLE if prior.is_some() => Err(End::Changed),
                // An empty file has no first byte.
                StatusCode::RANGE_NOT_SATISFIABLE => self.finish(0, self.follow()?).await,
                _ => match self.whole(answer).await {
                    Err(End::Failed(error)) => {
                        self.wait(&mut patience, error).await?;
                        continue;
                    }
                    other => other,
                },
            };
        }
    }

    /// Asks for some blocks, as long as the file is the one that `validator` stands for.
    async fn ask(&self, (first, end): (u64, u64), validator: Option<&str>) -> Result<Response, FetchError> {
        let mut request = self.client.request(&self.request.url);
        request = request.header(RANGE, format!("bytes={}-{}", first * BLOCK, end * BLOCK - 1));
        if let Some(validator) = validator {
            request = request.header(IF_RANGE, validator);
        }
        self.client.ask(&self.request.url, request).await
    }

    async fn wait(
        &self,
        patience: &mut crate::patience::Patience,
        error: FetchError,
    ) -> Result<(), FetchError> {
        patience.wait(error, &|text| self.progress.note(text)).await
    }

    /// Where a part begins, and of which version of the file it is.
    fn version(&self, answer: &Response) -> Result<(u64, Version), FetchError> {
        let header = |name: HeaderName| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let (start, size) = header(CONTENT_RANGE)
            .and_then(content_range)
            .ok_or_else(|| self.nonsense("does not say which part of the file it sends"))?;
        self.fits(size)?;
        Ok((start, Version { size, validator: validator(header(ETAG), header(LAST_MODIFIED)) }))
    }

    fn fits(&self, size: u64) -> Result<(), FetchError> {
        let limit = self.request.limit;
        if size > limit { Err(FetchError::TooLarge { url: self.shown(), limit }) } else { Ok(()) }
    }

    /// Takes a file whose server knows no ranges: from the start to the end, or from the start again.
    async fn whole(&self, answer: Response) -> Result<u64, End> {
        // Parts of it would be of no use.
        let _ = fs_err::remove_file(&self.place.journal);
        let total = answer.content_length();
        self.fits(total.unwrap_or(0))?;
        self.progress.begin(total, 0);
        let follower = self.follow()?;
        let mut at = 0;
        let mut body = answer.bytes_stream();
        while let Some(piece) = body.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) if error.is_timeout() => {
                    return Err(self.client.broken(&self.request.url, error).into());
                }
                Err(error) => {
                    return Err(match total {
                        Some(total) => FetchError::BrokeOff { url: self.shown(), came: at, total }.into(),
                        None => self.client.broken(&self.request.url, error).into(),
                    });
                }
            };
            self.fits(at + piece.len() as u64)?;
            self.write(&piece, at)?;
            at += piece.len() as u64;
            self.progress.came(piece.len() as u64);
            self.progress.there(at - piece.len() as u64..at);
            follower.iter().for_each(|follower| follower.reaches(at));
        }
        match total {
            Some(total) if at < total => {
                Err(FetchError::BrokeOff { url: self.shown(), came: at, total }.into())
            }
            _ => self.finish(at, follower).await,
        }
    }

    async fn finish_ranges(&self, ranges: Ranges<'_>) -> Result<u64, End> {
        let state = ranges.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.finish(state.journal.version.size, state.follower).await
    }

    /// All of it is there.
    async fn finish(&self, size: u64, follower: Option<Follower>) -> Result<u64, End> {
        let failed = |error| FetchError::io("read", &self.place.part, error);
        self.file.set_len(size).map_err(failed)?;
        if let (Some(wanted), Some(follower)) = (&self.request.checksum, follower) {
            let got = tokio::task::spawn_blocking(move || follower.finish(size)).await;
            let got = got.map_err(std::io::Error::other).flatten().map_err(failed)?;
            if got != *wanted {
                for path in [&self.place.journal, &self.place.part] {
                    let _ = fs_err::remove_file(path);
                }
                let (url, wanted) = (self.shown(), wanted.clone());
                return Err(FetchError::Mismatch { url, wanted, got }.into());
            }
        }
        Ok(size)
    }

    fn follow(&self) -> Result<Option<Follower>, FetchError> {
        let follow = |algorithm| Follower::start(self.file.clone(), algorithm);
        let follower = self.request.checksum.as_ref().map(|checksum| follow(checksum.algorithm()));
        follower.transpose().map_err(|error| FetchError::io("read", &self.place.part, error))
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), FetchError> {
        let written = self.file.write_all_at(bytes, at);
        written.map_err(|error| FetchError::io("write", &self.place.part, error))
    }

    fn nonsense(&self, what: &str) -> FetchError {
        FetchError::Nonsense { url: self.shown(), what: what.to_owned() }
    }

    fn shown(&self) -> String {
        shown(&self.request.url)
    }
}

/// A file in several ranges at once.
struct Ranges<'a> {
    fetch: &'a Fetch<'a>,
    state: Mutex<State>,
}

struct State {
    journal: Journal,
    /// Blocks that are being fetched: first, end.
    taken: Vec<(u64, u64)>,
    /// How many blocks came in this process.
    marked: u64,
    follower: Option<Follower>,
}

impl<'a> Ranges<'a> {
    fn new(fetch: &'a Fetch<'a>, mut journal: Journal) -> Result<Self, FetchError> {
        let size = journal.version.size;
        if size > 0 {
            room(&fetch.file, size).map_err(|error| FetchError::io("write", &fetch.place.part, error))?;
        }
        journal.write(&fetch.place.journal)?;
        fetch.progress.begin(Some(size), journal.bytes());
        journal.ranges().for_each(|bytes| fetch.progress.there(bytes));
        let follower = fetch.follow()?;
        let state = State { journal, taken: Vec::new(), marked: 0, follower };
        state.tell_follower();
        Ok(Self { fetch, state: Mutex::new(state) })
    }

    async fn run(&self, first: Response, segment: (u64, u64)) -> Result<(), End> {
        self.state().taken.push(segment);
        let mut first = Some((first, segment));
        let workers: FuturesUnordered<_> = (0..AT_ONCE).map(|_| self.work(first.take())).collect();
        workers.try_collect::<()>().await
    }

    /// Fetches segments until none is left.
    async fn work(&self, mut given: Option<(Response, (u64, u64))>) -> Result<(), End> {
        let (mut patience, mut marked) = (self.fetch.client.patience(), 0);
        loop {
            let (answer, segment) = match given.take() {
                Some((answer, segment)) => (Ok(answer), segment),
                None => match self.take() {
                    Some((segment, validator)) => {
                        (self.fetch.ask(segment, validator.as_deref()).await.map_err(End::from), segment)
                    }
                    None => return Ok(()),
                },
            };
            let done = match answer {
                Ok(answer) => self.receive(answer, segment).await,
                Err(error) => Err(error),
            };
            let now = {
                let mut state = self.state();
                state.taken.retain(|taken| *taken != segment);
                state.marked
            };
            match done {
                Ok(()) => {}
                Err(End::Changed) => return Err(End::Changed),
                Err(End::Failed(error)) => {
                    // Whoever it was that got on: the server is there.
                    if now != marked {
                        patience.restore();
                        marked = now;
                    }
                    self.fetch.wait(&mut patience, error).await?;
                }
            }
        }
    }

    /// The next blocks that nobody fetches, and the version of the file that they are to be of.
    fn take(&self) -> Option<((u64, u64), Option<String>)> {
        let mut state = self.state();
        let segment = state.journal.missing(&state.taken, SEGMENT)?;
        state.taken.push(segment);
        Some((segment, state.journal.version.validator.clone()))
    }

    async fn receive(&self, answer: Response, (first, end): (u64, u64)) -> Result<(), End> {
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            return Err(End::Changed);
        }
        let (start, version) = self.fetch.version(&answer)?;
        if version != self.state().journal.version {
            return Err(End::Changed);
        }
        if start != first * BLOCK {
            return Err(self.fetch.nonsense("sends another part than was asked for").into());
        }
        let (mut at, end) = (start, (end * BLOCK).min(version.size));
        let mut body = answer.bytes_stream();
        while at < end {
            let broke_off = || {
                let came = self.state().journal.bytes();
                FetchError::BrokeOff { url: self.fetch.shown(), came, total: version.size }
            };
            let piece = match body.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) if error.is_timeout() => {
                    return Err(self.fetch.client.broken(&self.fetch.request.url, error).into());
                }
                Some(Err(_)) | None => return Err(broke_off().into()),
            };
            // A server that sends more than was asked for is not listened to any longer.
            let piece = &piece[..piece.len().min(usize::try_from(end - at).unwrap_or(usize::MAX))];
            self.fetch.write(piece, at)?;
            let before = at / BLOCK;
            at += piece.len() as u64;
            self.fetch.progress.there(at - piece.len() as u64..at);
            let complete = if at == version.size { at.div_ceil(BLOCK) } else { at / BLOCK };
            for block in before..complete {
                self.came(block).await?;
            }
        }
        Ok(())
    }

    async fn came(&self, block: u64) -> Result<(), FetchError> {
        let place = &self.fetch.place;
        let due = {
            let mut state = self.state();
            let due = state.journal.mark(block);
            state.marked += 1;
            state.journal.write(&place.journal)?;
            state.tell_follower();
            self.fetch.progress.came(state.journal.length(block));
            due
        };
        if let Some(runs) = due {
            let file = self.fetch.file.clone();
            let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
            let synced = synced.map_err(std::io::Error::other).flatten();
            synced.map_err(|error| FetchError::io("write", &place.part, error))?;
            self.state().journal.synced(runs);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell_follower(&self) {
        if let Some(follower) = &self.follower {
            follower.reaches((self.journal.prefix() * BLOCK).min(self.journal.version.size));
        }
    }
}

/// Makes room for a file before any of it comes.
fn room(file: &File, size: u64) -> std::io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        // Not every file system can.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(size),
        made => made.map_err(Into::into),
    }
}

/// `Content-Range` (RFC 9110, section 14.4): where the part begins, and the size of the whole.
pub(crate) fn content_range(header: &str) -> Option<(u64, u64)> {
    let (range, size) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let (first, last, size): (u64, u64, u64) =
        (first.parse().ok()?, last.parse().ok()?, size.trim().parse().ok()?);
    (first <= last && last < size).then_some((first, size))
}

/// What tells versions apart for sure: a strong entity tag, else the date of the last change.
fn validator(etag: Option<&str>, modified: Option<&str>) -> Option<String> {
    etag.filter(|etag| etag.starts_with('"')).or(modified).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_read_as_the_standard_has_them() {
        assert_eq!(content_range("bytes 0-499/1234"), Some((0, 1234)));
        assert_eq!(content_range("bytes 734-1233/1234"), Some((734, 1234)));
        for bad in
            ["", "bytes */1234", "bytes 0-1/*", "bytes 5-4/9", "bytes 0-9/9", "items 0-1/2", "bytes -1/2"]
        {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn weak_tags_tell_nothing_apart() {
        assert_eq!(validator(Some("\"a\""), Some("then")), Some("\"a\"".to_owned()));
        assert_eq!(validator(Some("W/\"a\""), Some("then")), Some("then".to_owned()));
        assert_eq!(validator(Some("W/\"a\""), None), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_harm(text in "(bytes )?[0-9*/ -]{0,60}") {
            crate::fuzzing::response(text.as_bytes());
        }
    }
}
