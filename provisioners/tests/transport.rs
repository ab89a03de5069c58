//! The SSH transport against a real sshd, and against what is none.

mod support;

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use posada_provider_api::Fault;
use posada_provisioners::{
    Cancel, ExitStatus, KeyPair, OutputSink, OutputStream, Ssh, Stdin, Transport, TransportError,
};
use support::{Lines, Server};

fn run(ssh: &mut Ssh, command: &str, stdin: Stdin<'_>) -> (ExitStatus, Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = ssh
        .run(command, stdin, &mut |stream, bytes| match stream {
            OutputStream::Stdout => out.extend_from_slice(bytes),
            OutputStream::Stderr => err.extend_from_slice(bytes),
        })
        .unwrap();
    (status, out, err)
}

/// What `connect` makes of a peer that is no sshd.
fn against(peer: impl FnOnce(UnixStream) + Send + 'static, patience: Duration) -> TransportError {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let key = KeyPair::generate("x").unwrap();
    let login = posada_provisioners::Login {
        user: "root".to_owned(),
        private_key_pem: key.private_pem.to_string(),
        host_key_public: key.public_line,
        deadline: Instant::now() + patience,
    };
    let peer = thread::spawn(move || peer(theirs));
    let error = Ssh::connect(ours.into(), &login, Cancel::new().unwrap()).unwrap_err();
    peer.join().unwrap();
    error
}

#[test]
fn commands_run_and_say_how_they_ended() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    assert_eq!(run(&mut ssh, "echo hi", Stdin::Empty), (ExitStatus::Code(0), b"hi\n".to_vec(), vec![]));
    assert_eq!(
        run(&mut ssh, "echo no >&2; exit 3", Stdin::Empty),
        (ExitStatus::Code(3), vec![], b"no\n".to_vec())
    );
    assert_eq!(run(&mut ssh, "exit 255", Stdin::Empty).0, ExitStatus::Code(255));
    assert_eq!(run(&mut ssh, "printf partial", Stdin::Empty).1, b"partial");
    assert_eq!(run(&mut ssh, r#"printf '%s' 'a'\''b\c' "$HOME""#, Stdin::Empty).1, br"a'b\c/root");
}

#[test]
fn the_start_files_of_the_shell_are_read_once() {
    let user = support::User::new("b", false);
    std::fs::write(user.home.join(".bashrc"), "export TIMES=x$TIMES\necho from bashrc >&2\n").unwrap();
    let server = user.server();
    let mut ssh = server.connect();
    let got = run(&mut ssh, "echo $TIMES", Stdin::Empty);
    assert_eq!(got, (ExitStatus::Code(0), b"x\n".to_vec(), b"from bashrc\n".to_vec()));
}

#[test]
fn a_signal_is_told_by_its_name() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    assert_eq!(run(&mut ssh, "kill -KILL $$", Stdin::Empty).0, ExitStatus::Signal("KILL".to_owned()));
    assert_eq!(run(&mut ssh, "kill -TERM $$", Stdin::Empty).0, ExitStatus::Signal("TERM".to_owned()));
    assert_eq!(run(&mut ssh, "echo still here", Stdin::Empty).1, b"still here\n");
}

#[test]
fn the_same_over_tcp() {
    let server = Server::for_root();
    let mut ssh = Ssh::connect(server.tcp_stream(), &server.login(), Cancel::new().unwrap()).unwrap();
    assert_eq!(run(&mut ssh, "echo tcp", Stdin::Empty).1, b"tcp\n");
}

#[test]
fn both_streams_come_apart_and_complete() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let lines = Lines::default();
    let script = "i=0; while [ $i -lt 500 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    assert!(ssh.exec(script, Stdin::Empty, &lines).unwrap().success());
    for (stream, word) in [(OutputStream::Stdout, "out"), (OutputStream::Stderr, "err")] {
        let want: Vec<String> = (0..500).map(|i| format!("{word} {i}")).collect();
        assert_eq!(lines.of(stream), want);
    }
}

#[test]
fn ten_megabytes_of_output_arrive_whole() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let (status, out, err) =
        run(&mut ssh, "yes 0123456789abcde | head -c 10485760; yes e | head -c 3145728 >&2", Stdin::Empty);
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!((out.len(), err.len()), (10_485_760, 3_145_728));
    assert!(out.chunks(16).all(|c| c == b"0123456789abcde\n"));
    assert!(err.chunks(2).all(|c| c == b"e\n"));
}

#[test]
fn input_of_every_kind_arrives_whole() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    assert_eq!(run(&mut ssh, "cat", Stdin::Empty).1, b"");
    let big: Vec<u8> = (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(run(&mut ssh, "cat", Stdin::Bytes(&big)).1 == big);
    assert!(run(&mut ssh, "cat", Stdin::Reader(&mut &big[..])).1 == big);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let sent = big.clone();
    let feeder = thread::spawn(move || writer.write_all(&sent).unwrap());
    assert!(run(&mut ssh, "cat", Stdin::Fd(reader.as_fd())).1 == big);
    feeder.join().unwrap();
}

#[test]
fn a_command_need_not_read_its_input() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let big = vec![b'x'; 20_000_000];
    assert_eq!(run(&mut ssh, "head -c 3", Stdin::Bytes(&big)).1, b"xxx");
    assert_eq!(run(&mut ssh, "exit 4", Stdin::Bytes(&big)).0, ExitStatus::Code(4));
    assert_eq!(run(&mut ssh, "echo next", Stdin::Empty).1, b"next\n");
}

#[test]
fn a_process_left_behind_does_not_hold_the_command() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    // It holds both outputs open until the pipe of the test is closed.
    let dir = server.dir.path().display();
    let command = format!("mkfifo {dir}/fifo; (cat {dir}/fifo) & echo done; exit 5");
    let (status, out, _) = run(&mut ssh, &command, Stdin::Empty);
    assert_eq!((status, out), (ExitStatus::Code(5), b"done\n".to_vec()));
    drop(std::fs::OpenOptions::new().write(true).open(server.dir.path().join("fifo")).unwrap());
}

#[test]
fn a_strange_host_key_is_told_before_anything_is_sent() {
    let server = Server::for_root();
    let other = KeyPair::generate("other").unwrap();
    let login = posada_provisioners::Login { host_key_public: other.public_line, ..server.login() };
    let error = server.try_connect(&login, &Cancel::new().unwrap()).unwrap_err();
    let TransportError::HostKey { expected, found } = &error else { panic!("{error}") };
    assert!(expected.starts_with("SHA256:") && found.starts_with("SHA256:") && expected != found);
    assert!(error.hint().is_some());
    server.kill();
    assert!(!server.log().contains("publickey"), "no login was tried: {}", server.log());
}

#[test]
fn a_refused_login_tells_what_is_accepted() {
    let server = Server::for_root();
    let stranger = KeyPair::generate("stranger").unwrap();
    let login =
        posada_provisioners::Login { private_key_pem: stranger.private_pem.to_string(), ..server.login() };
    let error = server.try_connect(&login, &Cancel::new().unwrap()).unwrap_err();
    let TransportError::AuthRefused { user, accepts } = &error else { panic!("{error:?}") };
    assert_eq!((user.as_str(), accepts.as_slice()), ("root", &["publickey".to_owned()][..]));
    assert_eq!(error.to_string(), "the machine refused the key of user `root` (it accepts: publickey)");

    let nobody = posada_provisioners::Login { user: "no-such-user".to_owned(), ..server.login() };
    let error = server.try_connect(&nobody, &Cancel::new().unwrap()).unwrap_err();
    assert!(matches!(error, TransportError::AuthRefused { .. }), "{error:?}");
}

#[test]
fn a_peer_that_closes_at_once() {
    let error = against(drop, Duration::from_secs(20));
    assert!(matches!(error, TransportError::ClosedBeforeBanner), "{error:?}");
}

#[test]
fn a_peer_that_closes_after_our_banner() {
    let hang_up = |mut s: UnixStream| {
        let mut byte = [0];
        s.read_exact(&mut byte).unwrap();
    };
    let error = against(hang_up, Duration::from_secs(20));
    assert!(matches!(error, TransportError::ClosedBeforeBanner), "{error:?}");
}

#[test]
fn a_peer_that_speaks_http() {
    let web = |mut s: UnixStream| {
        let mut request = [0; 64];
        let _ = s.read(&mut request).unwrap();
        s.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    };
    let error = against(web, Duration::from_secs(20));
    let TransportError::NotSsh { got } = &error else { panic!("{error:?}") };
    assert_eq!(got, "HTTP/1.1 400 Bad Request");
}

#[test]
fn a_peer_that_breaks_off_in_the_key_exchange() {
    let half = |mut s: UnixStream| {
        s.write_all(b"SSH-2.0-Half\r\n").unwrap();
        let mut byte = [0];
        s.read_exact(&mut byte).unwrap();
    };
    let error = against(half, Duration::from_secs(20));
    assert!(matches!(error, TransportError::Lost { .. } | TransportError::Handshake(_)), "{error:?}");
}

#[test]
fn a_peer_that_says_nothing_is_not_waited_for_for_ever() {
    let (done, wait) = mpsc::channel::<()>();
    let silent = move |s: UnixStream| {
        let _ = wait.recv();
        drop(s);
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let key = KeyPair::generate("x").unwrap();
    let login = posada_provisioners::Login {
        user: "root".to_owned(),
        private_key_pem: key.private_pem.to_string(),
        host_key_public: key.public_line,
        deadline: Instant::now() + Duration::from_millis(100),
    };
    let peer = thread::spawn(move || silent(theirs));
    let error = Ssh::connect(OwnedFd::from(ours), &login, Cancel::new().unwrap()).unwrap_err();
    assert!(matches!(error, TransportError::TimedOut { during: "shaking hands", .. }), "{error:?}");
    done.send(()).unwrap();
    peer.join().unwrap();
}

#[test]
fn a_connection_that_breaks_is_no_success() {
    let server = Server::for_root();
    let mut ssh = server.connect();
    let (started, wait) = mpsc::channel();
    thread::scope(|scope| {
        let (server, mut told) = (&server, Some(started));
        scope.spawn(move || {
            wait.recv().unwrap();
            server.kill();
        });
        let result = ssh.run("echo started; read x", Stdin::Fd(idle().as_fd()), &mut |_, _| {
            if let Some(told) = told.take() {
                told.send(()).unwrap();
            }
        });
        assert!(matches!(result, Err(TransportError::Lost { .. })), "{result:?}");
    });
    assert!(ssh.exec("true", Stdin::Empty, &Lines::default()).is_err());
}

/// A descriptor from which nothing ever comes.
fn idle() -> &'static UnixStream {
    static PAIR: std::sync::OnceLock<(UnixStream, UnixStream)> = std::sync::OnceLock::new();
    &PAIR.get_or_init(|| UnixStream::pair().unwrap()).0
}

/// Throws the switch when a line with the process ids comes, and keeps hold of those processes.
struct CancelAtPid(Cancel, std::sync::Mutex<Vec<OwnedFd>>);

impl OutputSink for CancelAtPid {
    fn line(&self, _: OutputStream, text: &str) {
        if let Some(pids) = text.strip_prefix("pids ") {
            let hold = |pid: &str| {
                let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
                rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
            };
            *self.1.lock().unwrap() = pids.split(' ').map(hold).collect();
            self.0.cancel();
        }
    }
}

fn cancelled(server: &Server, command: &str, stdin: Stdin<'_>) {
    let cancel = Cancel::new().unwrap();
    let mut ssh = server.connect_with(&cancel);
    let sink = CancelAtPid(cancel, std::sync::Mutex::default());
    let result = ssh.exec(command, stdin, &sink);
    assert!(matches!(result, Err(TransportError::Interrupted)), "{result:?}");
    let held = sink.1.into_inner().unwrap();
    assert!(!held.is_empty());
    for process in held {
        // A killed process closes its files, which is what ends the command, an instant before it is gone.
        let mut fds = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut fds, Some(&patience)).unwrap(), 1, "a process still runs");
    }
    // A thrown switch stays thrown, but cleaning up goes on.
    assert!(matches!(ssh.exec("true", Stdin::Empty, &Lines::default()), Err(TransportError::Interrupted)));
    assert_eq!(ssh.tidy("exit 7").unwrap(), ExitStatus::Code(7));
}

#[test]
fn cancelling_ends_the_command_and_its_children() {
    cancelled(&Server::for_root(), "sleep 1000 & echo pids $$ $!; wait", Stdin::Empty);
}

#[test]
fn cancelling_ends_what_ignores_being_asked() {
    cancelled(
        &Server::for_root(),
        "trap '' TERM; sleep 1000 & echo pids $$ $!; while :; do wait; done",
        Stdin::Empty,
    );
}

#[test]
fn cancelling_in_the_middle_of_input_that_nobody_reads() {
    let big = vec![0; 50_000_000];
    cancelled(&Server::for_root(), "sleep 1000 & echo pids $$ $!; wait", Stdin::Bytes(&big));
}

#[test]
fn cancelling_in_the_middle_of_a_flood() {
    cancelled(&Server::for_root(), "yes flood & echo; echo pids $$ $!; wait", Stdin::Empty);
}

#[test]
fn cancelling_ends_what_runs_by_sudo() {
    let user = support::User::new("c", true);
    cancelled(&user.server(), "exec sudo -n sh -c 'sleep 1000 & echo pids $$ $!; wait'", Stdin::Empty);
}

#[test]
fn cancelling_while_the_peer_is_silent() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let server = Server::for_root();
    let cancel = Cancel::new().unwrap();
    cancel.cancel();
    let result = Ssh::connect(ours.into(), &server.login(), cancel);
    assert!(matches!(result, Err(TransportError::Interrupted)));
}

#[test]
fn a_key_that_is_none_is_told() {
    let server = Server::for_root();
    let login =
        posada_provisioners::Login { host_key_public: "ssh-ed25519 AAAA".to_owned(), ..server.login() };
    let error = server.try_connect(&login, &Cancel::new().unwrap()).unwrap_err();
    assert!(matches!(error, TransportError::BadKey { what: "pinned host key", .. }), "{error:?}");
    assert!(!format!("{:?}", server.login()).contains("PRIVATE"));
}
