//! Over TLS, with a certificate that is renewed.

use std::path::Path;

use posada_box_server::{Settings, TlsFiles};
use reqwest::{Certificate, Client};

use crate::support::{noise, start};

/// Writes a certificate for localhost, and its key.
fn certify(files: &TlsFiles) -> Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    Certificate::from_pem(made.cert.pem().as_bytes()).unwrap()
}

fn trusting(certificate: Certificate) -> Client {
    Client::builder().no_proxy().tls_certs_only([certificate]).build().unwrap()
}

fn files(dir: &Path) -> TlsFiles {
    TlsFiles { certificate: dir.join("cert.pem"), key: dir.join("key.pem") }
}

#[tokio::test]
async fn connections_are_secured_and_certificates_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let first = trusting(certify(&files));
    let server = start(Settings { tls: Some(files.clone()), ..Settings::default() }).await;
    let health = async |client: &Client| client.get(format!("{}/healthz", server.base)).send().await;
    let answer = health(&first).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (reqwest::StatusCode::OK, reqwest::Version::HTTP_2));
    assert!(health(&server.client).await.is_err(), "nobody vouches for it");

    let url = format!("{}/team/web/versions/1/lxc/amd64/vagrant.box", server.base);
    let pushed = first.put(&url).bearer_auth(&server.token).body(noise(1, 5 << 20)).send().await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&pushed.text().await.unwrap()).unwrap();
    assert_eq!(told["url"], url);
    let read = first.get(&url).bearer_auth(&server.token).send().await.unwrap().bytes().await.unwrap();
    assert!(read == noise(1, 5 << 20));

    // What cannot be used changes nothing.
    std::fs::write(&files.key, "nonsense").unwrap();
    let error = server.handle.reload_tls().unwrap_err();
    assert!(error.to_string().contains("key.pem"), "{error}");
    assert_eq!(health(&first).await.unwrap().status(), 200);
    let second = trusting(certify(&files));
    server.handle.reload_tls().unwrap();
    assert_eq!(health(&second).await.unwrap().status(), 200);
}
