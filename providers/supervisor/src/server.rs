//! Answers on the control socket.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use posada_provider_api::{MachineState, Protocol, ProviderError, Stopped};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::console::ConsoleHub;
use crate::fdpass::{self, LineReader};
use crate::machine::{Guest, Machine, Notice, SELDOM, Stage};
use crate::protocol::{Answer, Envelope, Reply, Request, VERSION, to_line};

/// How long the kernel is given to end a machine that was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How long conversations are given to end once the machine has.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Answers for one machine.
pub struct Server {
    machine: Arc<Machine>,
    console: Mutex<Weak<ConsoleHub>>,
    /// How many conversations are under way.
    conversations: watch::Sender<usize>,
    /// Whether somebody has heard how the start went.
    watched: watch::Sender<bool>,
}

impl Server {
    /// Serves `machine` on `listener`, in the background.
    #[must_use]
    pub fn start(machine: Arc<Machine>, listener: UnixListener) -> Arc<Self> {
        let server = Arc::new(Self {
            machine,
            console: Mutex::default(),
            conversations: watch::Sender::new(0),
            watched: watch::Sender::new(false),
        });
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        accepting.conversations.send_modify(|count| *count += 1);
                        drop(tokio::spawn(accepting.clone().converse(stream)));
                    }
                    // Out of descriptors: wait for a conversation to end rather than spin.
                    Err(_) => drop(accepting.conversations.subscribe().changed().await),
                }
            }
        });
        server
    }

    /// Returns when every client has its answer. Whoever starts a supervisor watches it, perhaps only after a
    /// start that failed at once: it is waited for, as long as it may still live.
    pub async fn finish(&self) {
        let (mut watched, mut conversations) = (self.watched.subscribe(), self.conversations.subscribe());
        let all = async {
            let _ = watched.wait_for(|watched| *watched).await;
            let _ = conversations.wait_for(|count| *count == 0).await;
        };
        let _ = timeout(LAST_WORDS, all).await;
    }

    /// Gives the server the console it lends out, for as long as the caller keeps the result.
    #[must_use]
    pub fn lend(&self, hub: ConsoleHub) -> Arc<ConsoleHub> {
        let hub = Arc::new(hub);
        *self.console.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&hub);
        hub
    }

    async fn converse(self: Arc<Self>, stream: UnixStream) {
        // A client that goes away in mid-conversation has nobody to tell.
        let _ = self.answer(stream).await;
        self.conversations.send_modify(|count| *count -= 1);
    }

    async fn answer(&self, stream: UnixStream) -> io::Result<()> {
        let Some(line) = LineReader::new().line(&stream).await? else { return Ok(()) };
        let request = match serde_json::from_slice::<Envelope>(&line) {
            Ok(envelope) if envelope.version == VERSION => envelope.request,
            Ok(envelope) => {
                let what = format!(
                    "this machine was started by another version of posada (control protocol {VERSION}, asked in {}); halt it with that version, or end process {}",
                    envelope.version,
                    std::process::id()
                );
                return reply(&stream, &Reply::Failed(ProviderError::Internal { what }.into())).await;
            }
            Err(error) => {
                let what = format!("a request that is none: {error}");
                return reply(&stream, &Reply::Failed(ProviderError::Internal { what }.into())).await;
            }
        };
        let watched = matches!(request, Request::Watch);
        let result = match request {
            Request::Watch => self.watch(&stream).await?.map(|()| (Answer::default(), None)),
            Request::Status => {
                Ok((Answer { status: Some(self.machine.status()), ..Answer::default() }, None))
            }
            Request::Stop { patience_ms } => {
                // Who stops a machine holds its lock: whoever started it is done, or was killed.
                self.watched.send_replace(true);
                let stopped = self.stop(Duration::from_millis(patience_ms)).await;
                stopped.map(|stopped| (Answer { stopped: Some(stopped), ..Answer::default() }, None))
            }
            Request::Suspend => self.suspend().map(|()| (Answer::default(), None)),
            Request::Resume => self.resume().map(|()| (Answer::default(), None)),
            Request::Connect { port, patience_ms } => self
                .connect(&stream, port, Duration::from_millis(patience_ms))
                .await?
                .map(|fd| (Answer::default(), Some(fd))),
            Request::Console => self.attach().map(|fd| (Answer::default(), Some(fd))),
        };
        match result {
            Ok((answer, fd)) => fdpass::send(&stream, &to_line(&Reply::Done(answer))?, fd.as_ref()).await,
            Err(error) => reply(&stream, &Reply::Failed(error.into())).await,
        }?;
        if watched {
            self.watched.send_replace(true);
        }
        Ok(())
    }

    async fn watch(&self, stream: &UnixStream) -> io::Result<Result<(), ProviderError>> {
        let (past, mut notices) = self.machine.notices();
        for notice in past {
            reply(stream, &notice.into()).await?;
        }
        let mut stages = self.machine.stages();
        let started = async {
            // One that is stopping is not there to be started: its end is, and a new one after it.
            let settled = |stage: &Stage| match stage {
                Stage::Starting | Stage::Ending => false,
                Stage::Running(_) | Stage::Suspended(_) => !self.machine.is_stopping(),
                Stage::Ended(_) => true,
            };
            let stopping = self.machine.is_stopping();
            let stage = stages.wait_for(settled).await;
            match stage.map_err(io::Error::other)?.clone() {
                Stage::Ended(_) if stopping => Ok(Err(self.not_running())),
                Stage::Ended(Some(failure)) => io::Result::Ok(Err(ProviderError::from(failure))),
                Stage::Ended(None) => Ok(Err(self.machine.error("the machine was stopped while it started"))),
                _ => Ok(Ok(())),
            }
        };
        let result = tokio::select! {
            biased;
            result = started => result?,
            error = relay(stream, &mut notices) => return Err(error),
        };
        while let Ok(notice) = notices.try_recv() {
            reply(stream, &notice.into()).await?;
        }
        Ok(result)
    }

    async fn stop(&self, patience: Duration) -> Result<Stopped, ProviderError> {
        let began = Instant::now();
        self.machine.set_stopping();
        let mut stages = self.machine.stages();
        // One that is still starting is stopped as soon as there is something to stop.
        let _ = stages.wait_for(|stage| !matches!(stage, Stage::Starting | Stage::Ending)).await;
        let stage = self.machine.stage();
        let guest = match stage {
            Stage::Running(guest) => guest,
            Stage::Suspended(guest) => {
                guest.resume()?;
                guest
            }
            Stage::Starting | Stage::Ending | Stage::Ended(_) => return Ok(stopped(began, false)),
        };
        let mut ended =
            async |limit| timeout(limit, stages.wait_for(|s| matches!(s, Stage::Ended(_)))).await.is_ok();
        if !patience.is_zero() && guest.ask_to_stop().is_ok() && ended(patience).await {
            return Ok(stopped(began, false));
        }
        guest.kill().map_err(|error| self.machine.error(format!("the machine cannot be killed: {error}")))?;
        if ended(KILL_PATIENCE).await {
            Ok(stopped(began, true))
        } else {
            Err(self.machine.error("the machine was killed and still has not ended"))
        }
    }

    fn suspend(&self) -> Result<(), ProviderError> {
        match self.machine.stage() {
            Stage::Running(guest) => {
                guest.suspend()?;
                self.machine.enter(Stage::Suspended(guest));
                Ok(())
            }
            Stage::Suspended(_) => Ok(()),
            _ => Err(self.not_running()),
        }
    }

    fn resume(&self) -> Result<(), ProviderError> {
        match self.machine.stage() {
            Stage::Suspended(guest) => {
                guest.resume()?;
                self.machine.enter(Stage::Running(guest));
                Ok(())
            }
            Stage::Running(_) => Ok(()),
            _ => Err(self.not_running()),
        }
    }

    fn attach(&self) -> Result<OwnedFd, ProviderError> {
        let hub = self.console.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        let hub = hub.ok_or_else(|| self.not_running())?;
        hub.attach().map_err(|error| ProviderError::Internal { what: format!("attach the console: {error}") })
    }

    async fn connect(
        &self,
        stream: &UnixStream,
        port: u16,
        patience: Duration,
    ) -> io::Result<Result<OwnedFd, ProviderError>> {
        let (_, mut notices) = self.machine.notices();
        tokio::select! {
            biased;
            result = self.dial(port, patience) => Ok(result),
            error = relay(stream, &mut notices) => Err(error),
        }
    }

    /// Dials each time something stirs, until something listens.
    async fn dial(&self, port: u16, patience: Duration) -> Result<OwnedFd, ProviderError> {
        let deadline = Instant::now() + patience;
        let mut stirs = self.machine.stirs();
        let mut tried = 0;
        let mut unasked = None;
        loop {
            stirs.mark_unchanged();
            let guest: Arc<dyn Guest> = match self.machine.stage() {
                Stage::Running(guest) => guest,
                Stage::Suspended(_) => {
                    return Err(ProviderError::State { is: MachineState::Suspended, must: "running" });
                }
                Stage::Ended(Some(failure)) => return Err(failure.into()),
                Stage::Ended(None) => return Err(self.not_running()),
                Stage::Starting | Stage::Ending => {
                    if timeout_at(deadline, stirs.changed()).await.is_err() {
                        return Err(self
                            .machine
                            .error(format!("the machine did not start within {patience:?}")));
                    }
                    continue;
                }
            };
            let refused = match timeout_at(deadline, guest.dial(Protocol::Tcp, port)).await {
                Ok(Ok(fd)) => return Ok(fd),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            tried += 1;
            let pause = *unasked.get_or_insert_with(|| guest.unasked().unwrap_or(Duration::MAX));
            let next = Instant::now().checked_add(pause).map_or(deadline, |next| next.min(deadline));
            let stirred = timeout_at(next, stirs.changed()).await.is_ok();
            unasked = (!stirred).then(|| pause.saturating_mul(2).min(SELDOM));
            if !stirred && Instant::now() >= deadline {
                return Err(self.machine.error(format!(
                    "nothing listens on port {port} of the machine after {patience:?} ({tried} tries, the last: {refused})"
                )));
            }
        }
    }

    fn not_running(&self) -> ProviderError {
        ProviderError::State { is: self.machine.status().state, must: "running" }
    }
}

impl From<Notice> for Reply {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Phase(text) => Self::Phase { text },
            Notice::Warning(text) => Self::Warning { text },
            Notice::Console(line) => Self::Console { line },
        }
    }
}

async fn reply(stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    fdpass::send(stream, &to_line(reply)?, None).await
}

/// Passes notices on until the client is gone.
async fn relay(stream: &UnixStream, notices: &mut broadcast::Receiver<Notice>) -> io::Error {
    loop {
        let gone = tokio::select! {
            notice = notices.recv() => match notice {
                Ok(notice) => reply(stream, &notice.into()).await.err(),
                Err(broadcast::error::RecvError::Lagged(_)) => None,
                Err(broadcast::error::RecvError::Closed) => Some(io::ErrorKind::BrokenPipe.into()),
            },
            () = gone(stream) => Some(io::ErrorKind::BrokenPipe.into()),
        };
        if let Some(error) = gone {
            return error;
        }
    }
}

/// Returns when the client is gone. It has said all it had to say, so there is nothing to read but the end.
async fn gone(stream: &UnixStream) {
    loop {
        // Readiness may be stale; only a read tells.
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

pub(crate) fn stopped(began: Instant, forced: bool) -> Stopped {
    Stopped { forced, took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use posada_provider_api::{MachineDir, Observer, Silent};

    use super::*;
    use crate::Client;

    /// A guest in which a port begins to listen when it is told so.
    #[derive(Default)]
    struct Late {
        listens: std::sync::atomic::AtomicBool,
        unasked: Option<Duration>,
    }

    #[async_trait::async_trait]
    impl Guest for Late {
        fn init_pid(&self) -> Option<i32> {
            None
        }
        fn ask_to_stop(&self) -> io::Result<()> {
            Ok(())
        }
        fn kill(&self) -> io::Result<()> {
            Ok(())
        }
        fn suspend(&self) -> Result<(), ProviderError> {
            Ok(())
        }
        fn resume(&self) -> Result<(), ProviderError> {
            Ok(())
        }
        async fn dial(&self, _: Protocol, _: u16) -> io::Result<OwnedFd> {
            if self.listens.load(std::sync::atomic::Ordering::Acquire) {
                Ok(UnixStream::pair()?.0.into_std()?.into())
            } else {
                Err(io::ErrorKind::ConnectionRefused.into())
            }
        }
        fn unasked(&self) -> Option<Duration> {
            self.unasked
        }
    }

    fn served() -> (tempfile::TempDir, MachineDir, Arc<Machine>) {
        let temp = tempfile::tempdir().unwrap();
        let dir = MachineDir::new(temp.path());
        let machine = Machine::starting();
        let _server = Server::start(machine.clone(), UnixListener::bind(dir.control_socket()).unwrap());
        (temp, dir, machine)
    }

    #[tokio::test]
    async fn a_watcher_waits_for_the_start_and_hears_of_it() {
        let (_temp, dir, machine) = served();
        machine.phase("booting");
        let watching = tokio::spawn(async move { Client::new(&dir).ask(Request::Watch, &Silent).await });
        tokio::task::yield_now().await;
        machine.enter(Stage::Running(Arc::<Late>::default()));
        watching.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_stream_comes_when_the_port_listens() {
        let (_temp, dir, machine) = served();
        let guest = Arc::<Late>::default();
        machine.enter(Stage::Running(guest.clone()));
        let asking = tokio::spawn(async move {
            Client::new(&dir).ask(Request::Connect { port: 22, patience_ms: 60_000 }, &Silent).await
        });
        machine.console("sshd is about to listen");
        guest.listens.store(true, std::sync::atomic::Ordering::Release);
        machine.stir();
        let (_, fd) = asking.await.unwrap().unwrap();
        assert!(fd.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_says_nothing_is_asked_ever_more_seldom() {
        let machine = Machine::starting();
        let listener = UnixListener::bind(tempfile::tempdir().unwrap().path().join("s")).unwrap();
        let server = Server::start(machine.clone(), listener);
        let guest = Arc::new(Late { unasked: Some(Duration::from_millis(250)), ..Late::default() });
        machine.enter(Stage::Running(guest.clone()));
        let began = Instant::now();
        let opened = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            guest.listens.store(true, std::sync::atomic::Ordering::Release);
        };
        let (fd, ()) = tokio::join!(server.dial(22, Duration::from_secs(600)), opened);
        fd.unwrap();
        // At 0.25, 0.75, 1.75 and 3.75 seconds.
        assert_eq!(began.elapsed().as_millis() / 50, 3750 / 50);
        guest.listens.store(false, std::sync::atomic::Ordering::Release);
        let began = Instant::now();
        let error = server.dial(22, Duration::from_secs(60)).await.unwrap_err().to_string();
        assert_eq!(began.elapsed().as_secs(), 60, "all the patience is used, and no more");
        assert!(error.contains("16 tries"), "{error}");
    }

    #[tokio::test]
    async fn a_failed_start_reaches_the_watcher_with_the_console() {
        let (_temp, dir, machine) = served();
        machine.console("init: no such file");
        machine.enter(Stage::Ended(Some(machine.error("it died").into())));
        let error = Client::new(&dir).ask(Request::Watch, &Silent).await.unwrap_err();
        let ProviderError::Machine { console, .. } = error else { panic!("{error:?}") };
        assert_eq!(console, ["init: no such file"]);
    }

    #[tokio::test]
    async fn one_that_is_being_cleared_away_does_not_run_and_tells_how_it_ended() {
        let (_temp, dir, machine) = served();
        machine.enter(Stage::Running(Arc::<Late>::default()));
        let client = Client::new(&dir);
        assert_eq!(client.status().await.unwrap().unwrap().state, MachineState::Running);
        machine.enter(Stage::Ending);
        assert_eq!(client.status().await.unwrap().unwrap().state, MachineState::Stopped);
        let asking = tokio::spawn(async move {
            client.ask(Request::Connect { port: 22, patience_ms: 60_000 }, &Silent).await
        });
        tokio::task::yield_now().await;
        machine.enter(Stage::Ended(Some(machine.error("it was killed").into())));
        assert_eq!(asking.await.unwrap().unwrap_err().to_string(), "it was killed");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_starter_that_was_killed_once_the_machine_is_stopped() {
        let temp = tempfile::tempdir().unwrap();
        let dir = MachineDir::new(temp.path());
        let machine = Machine::starting();
        let server = Server::start(machine.clone(), UnixListener::bind(dir.control_socket()).unwrap());
        let began = Instant::now();
        machine.enter(Stage::Ended(None));
        Client::new(&dir).stop(0).await.unwrap();
        server.finish().await;
        assert!(began.elapsed() < LAST_WORDS);
    }

    #[tokio::test]
    async fn another_version_is_told_apart() {
        let (_temp, dir, _machine) = served();
        let stream = UnixStream::connect(dir.control_socket()).await.unwrap();
        fdpass::send(&stream, b"{\"version\":99,\"op\":\"status\"}\n", None).await.unwrap();
        let line = LineReader::new().line(&stream).await.unwrap().unwrap();
        assert!(String::from_utf8(line).unwrap().contains("another version"));
    }
}
