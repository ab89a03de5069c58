//! Whether a machine does its work, by the Vmfile's `healthcheck`.

use std::time::Duration;

use posada_provider_api::Silent;
use posada_provisioners::{ExitStatus, Ssh, Stdin, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::error::Error;
use crate::orchestrator::Orchestrator;
use crate::state::Entry;
use crate::vmfile::{HealthCheck, HealthTest, MachineConfig};

impl Orchestrator {
    /// Probes until the machine is healthy.
    pub(super) async fn await_health(
        &self,
        entry: &Entry,
        config: &MachineConfig,
        ssh: Ssh,
    ) -> Result<(), Error> {
        let Some(check) = &config.healthcheck else { return Ok(()) };
        let phase = self.phase(&config.name, "waiting until healthy");
        let deadline = Instant::now() + check.start_timeout;
        let mut ssh = Some(ssh);
        loop {
            let probe = timeout(check.timeout, self.probe(entry, check, &mut ssh));
            let last = tokio::select! {
                outcome = probe => match outcome {
                    Ok(Ok(())) => {
                        phase.done("healthy");
                        return Ok(());
                    }
                    Ok(Err(why)) => why,
                    Err(_) => format!("no answer within {:?}", check.timeout),
                },
                () = self.cancel.cancelled() => return Err(self.interrupted(entry).await),
            };
            let interrupted = tokio::select! {
                pause = timeout_at(deadline, sleep(check.interval)) => pause.is_err(),
                () = self.cancel.cancelled() => return Err(self.interrupted(entry).await),
            };
            if interrupted {
                let seconds = check.start_timeout.as_secs();
                return Err(Error::Unhealthy { machine: config.name.clone(), seconds, last });
            }
        }
    }

    /// One probe; says why it failed.
    async fn probe(&self, entry: &Entry, check: &HealthCheck, ssh: &mut Option<Ssh>) -> Result<(), String> {
        match &check.test {
            HealthTest::Command(command) => {
                let mut session = match ssh.take() {
                    Some(session) => session,
                    // The last probe was given up in mid-command, and its session with it.
                    None => self.connect(entry).await.map_err(|error| error.to_string())?,
                };
                let command = command.clone();
                let ran = tokio::task::spawn_blocking(move || {
                    let status = session.run(&command, Stdin::Empty, &mut |_, _| {});
                    (session, status)
                });
                let (session, status) = ran.await.map_err(|error| error.to_string())?;
                *ssh = Some(session);
                match status.map_err(|error| error.to_string())? {
                    ExitStatus::Code(0) => Ok(()),
                    status => Err(format!("its command ended with {status}")),
                }
            }
            HealthTest::Tcp(port) => self.reach(entry, *port, check.timeout).await.map(drop),
            HealthTest::Http { port, path } => {
                let stream = self.reach(entry, *port, check.timeout).await?;
                http_get(stream, path).await
            }
        }
    }

    async fn reach(&self, entry: &Entry, port: u16, patience: Duration) -> Result<UnixStream, String> {
        let fd = self.dial(entry, port, patience, &Silent).await.map_err(|error| error.to_string())?;
        // tokio asks nothing of a stream socket but that it reads and writes: a TCP one serves as well.
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(stream))
            .map_err(|error| error.to_string())
    }
}

/// Asks for `path` and looks at the status line alone (RFC 9112, section 4).
async fn http_get(mut stream: UnixStream, path: &str) -> Result<(), String> {
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: posada\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 512];
    while !answer.contains(&b'\n') && answer.len() < 4096 {
        match stream.read(&mut chunk).await.map_err(|error| error.to_string())? {
            0 => break,
            read => answer.extend_from_slice(&chunk[..read]),
        }
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    let status: Option<u16> = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_whitespace().nth(1))
        .and_then(|status| status.parse().ok());
    match status {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("HTTP status {status}")),
        None => Err(format!("no HTTP answer: `{line}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &'static str) -> Result<(), String> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let server = tokio::spawn(async move {
            let mut request = [0; 16];
            theirs.read_exact(&mut request).await.unwrap();
            theirs.write_all(answer.as_bytes()).await.unwrap();
        });
        let outcome = http_get(ours, "/").await;
        server.await.unwrap();
        outcome
    }

    #[tokio::test]
    async fn http_health_is_the_status_line() {
        assert_eq!(answered("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
        assert_eq!(answered("HTTP/1.0 302 Found\n").await, Ok(()));
        assert_eq!(answered("HTTP/1.1 503 Busy\r\n\r\n").await, Err("HTTP status 503".into()));
        assert_eq!(answered("SSH-2.0-x\r\n").await, Err("no HTTP answer: `SSH-2.0-x`".into()));
        assert!(answered("").await.is_err());
    }
}
