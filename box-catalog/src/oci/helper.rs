//! Programs that keep logins for docker and its like.
//! Protocol: <https://github.com/docker/docker-credential-helpers>, "Development".

use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::auth::Login;

/// Most bytes that one may say.
const MAX_ANSWER: u64 = 64 << 10;
/// How long one may take: it may ask its user for a password.
const PATIENCE: Duration = Duration::from_secs(120);
/// What one says that has no login for a server.
const NOT_FOUND: &str = "credentials not found";
/// The user of one that keeps what tokens are made of, in place of a password.
const IDENTITY: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the program `docker-credential-NAME` in one of `directories` for the login for `server`; `None` where it has none, or is not
/// there: what the server has may be open to everybody.
///
/// # Errors
/// What it says that went wrong, or what is wrong with it.
pub fn ask(directories: &[PathBuf], name: &str, server: &str) -> Result<Option<Login>, String> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!("logins are said to be kept by `{name}`, which is no name"));
    }
    let program = format!("docker-credential-{name}");
    let Some(path) = directories.iter().map(|directory| directory.join(&program)).find(|path| path.is_file())
    else {
        return Ok(None);
    };
    let failed = |what: String| format!("`{program}`, which keeps the login for `{server}`, failed: {what}");
    let mut child = Command::new(path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read it may know what to say all the same.
        let _ = writeln!(input, "{server}");
    }
    let (done, ended) = channel();
    for (which, output) in
        [child.stdout.take().map(boxed), child.stderr.take().map(boxed)].into_iter().enumerate()
    {
        let done = done.clone();
        std::thread::spawn(move || {
            let mut said = Zeroizing::new(Vec::new());
            let read = output.map(|output| output.take(MAX_ANSWER).read_to_end(&mut said));
            let _ = done.send((which, said, read.is_some_and(|read| read.is_ok())));
        });
    }
    let mut said = [Zeroizing::new(Vec::new()), Zeroizing::new(Vec::new())];
    for _ in 0..said.len() {
        let in_time = ended.recv_timeout(PATIENCE);
        let full = matches!(&in_time, Ok((_, said, _)) if said.len() as u64 == MAX_ANSWER);
        match in_time {
            Ok((which, bytes, true)) if !full => said[which] = bytes,
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed("it does not come to an end".to_owned()));
            }
        }
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let [answer, complaint] = said.map(|said| Zeroizing::new(String::from_utf8_lossy(&said).into_owned()));
    if !status.success() {
        if [&answer, &complaint].iter().any(|said| said.contains(NOT_FOUND)) {
            return Ok(None);
        }
        let told = if complaint.trim().is_empty() { answer.trim() } else { complaint.trim() };
        return Err(failed(format!("{status}: {told}")));
    }
    let answer: Answer =
        serde_json::from_str(&answer).map_err(|_| failed("what it says is no login".to_owned()))?;
    if answer.username == IDENTITY {
        return Err(failed("it keeps an identity token, which cannot be used here".to_owned()));
    }
    Ok(Some(Login::new(&answer.username, &Zeroizing::new(answer.secret))))
}

fn boxed(output: impl Read + Send + 'static) -> Box<dyn Read + Send> {
    Box::new(output)
}
