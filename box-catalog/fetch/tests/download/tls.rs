//! Certificates that are known, and that are not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use posada_fetch::{FetchError, Settings};
use posada_provider_api::Fault as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::server::{Answer, Asked, Bench, Server, Stream};

struct Tls(StreamOwned<ServerConnection, TcpStream>);

impl Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Tls {
    fn cut(&mut self) {
        self.0.sock.cut();
    }
}

/// A server with a certificate of its own making, in PEM.
fn server(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Server, String) {
    server_for(None, answer)
}

/// The same, that answers only who shows a certificate of `clients`, where there are some.
fn server_for(
    clients: Option<RootCertStore>,
    answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
) -> (Server, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = clients.map(|clients| {
        WebPkiClientVerifier::builder_with_provider(clients.into(), provider.clone()).build().unwrap()
    });
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = match verifier {
        Some(verifier) => config.with_client_cert_verifier(verifier),
        None => config.with_no_client_auth(),
    };
    let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let config = Arc::new(config);
    let mut server = Server::wrapped(answer, move |stream| {
        let connection = ServerConnection::new(config.clone()).ok()?;
        Some(Box::new(Tls(StreamOwned::new(connection, stream))))
    });
    server.url.set_scheme("https").unwrap();
    (server, made.cert.pem())
}

#[test]
fn an_authority_of_ones_own_is_taken_and_no_other() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str, pem: &str| {
        let path = temp.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let good = |_: &Asked| Answer::whole(b"x");
    let ((server, mine), (_, other)) = (server(good), server(good));
    let with = |authorities, insecure| {
        Bench::with(Settings { proxies: false, authorities, insecure, ..Settings::default() })
    };
    with(vec![at("mine.pem", &mine)], false).fetch(&server.url, None).unwrap();
    with(Vec::new(), true).fetch(&server.url, None).unwrap();
    for authorities in [vec![], vec![at("other.pem", &other)]] {
        let error = with(authorities, false).fetch(&server.url, None).unwrap_err();
        assert!(matches!(error, FetchError::Transport { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("--cacert"), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let none = Settings { authorities: vec![at("none.pem", "nothing")], ..Settings::default() };
    let error = posada_fetch::Client::new(none).unwrap_err();
    assert!(error.to_string().contains("none.pem"), "{error}");
}

#[test]
fn a_directory_of_authorities_is_taken_and_others_files_in_it_are_passed_over() {
    let temp = tempfile::tempdir().unwrap();
    let (server, mine) = server(|_| Answer::whole(b"x"));
    std::fs::write(temp.path().join("README"), "of authorities").unwrap();
    let settings =
        || Settings { proxies: false, authorities: vec![temp.path().to_owned()], ..Settings::default() };
    let error = posada_fetch::Client::new(settings()).unwrap_err();
    assert!(error.to_string().contains("there are none"), "{error}");
    std::fs::write(temp.path().join("1f2e3d4c.0"), mine).unwrap();
    Bench::with(settings()).fetch(&server.url, None).unwrap();
}

#[test]
fn a_server_that_asks_for_it_is_shown_a_certificate() {
    let temp = tempfile::tempdir().unwrap();
    let client = rcgen::generate_simple_self_signed(["a client".to_owned()]).unwrap();
    let mut clients = RootCertStore::empty();
    clients.add(client.cert.der().clone()).unwrap();
    let (server, authority) = server_for(Some(clients), |_| Answer::whole(b"x"));
    let at = |name: &str, pem: &str| {
        let path = temp.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let settings = |identity| Settings {
        proxies: false,
        authorities: vec![at("authority.pem", &authority)],
        identity,
        tries: 1,
        ..Settings::default()
    };
    let both = at("client.pem", &(client.cert.pem() + &client.signing_key.serialize_pem()));
    Bench::with(settings(Some(both))).fetch(&server.url, None).unwrap();
    Bench::with(settings(None)).fetch(&server.url, None).unwrap_err();
    let keyless = at("keyless.pem", &client.cert.pem());
    let error = posada_fetch::Client::new(settings(Some(keyless))).unwrap_err();
    assert!(error.to_string().contains("keyless.pem"), "{error}");
}

#[test]
fn an_encrypted_connection_does_not_lead_to_one_that_is_not() {
    let plain = Server::start(|_| Answer::whole(b"x"));
    let elsewhere = plain.url.clone();
    let (secure, pem) = server(move |_| Answer::new(302).header("location", &elsewhere));
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.pem");
    std::fs::write(&path, pem).unwrap();
    let bench = Bench::with(Settings { proxies: false, authorities: vec![path], ..Settings::default() });
    let error = bench.fetch(&secure.url, None).unwrap_err();
    assert!(error.to_string().contains("not safe"), "{error}");
    assert_eq!(plain.seen().len(), 0);
}
