//! Beginning and ending.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use posada_box_server::{Limits, Location, Repository, Served, Server, Settings, Storage};

use crate::support::{Seen, file, noise, start};

#[tokio::test]
async fn transfers_under_way_end_before_the_server_does() {
    let mut server = start(Settings::default()).await;
    let bytes = noise(1, 16 << 20);
    server.publish("team/web", "1", bytes.clone()).await;
    let mut download = server.get(&file("team/web", "1")).send().await.unwrap().bytes_stream();
    let first = download.next().await.unwrap().unwrap();
    let served = server.tell_to_stop();
    while tokio::net::TcpStream::connect(server.address).await.is_ok() {}
    let rest: Vec<_> = download.try_collect().await.unwrap();
    assert!([first.to_vec(), rest.concat()].concat() == bytes);
    assert_eq!(served.await.unwrap(), Served { complete: true });
}

#[tokio::test]
async fn who_never_ends_is_not_waited_for() {
    let limits = Limits { farewell: Duration::from_millis(20), ..Limits::default() };
    let mut server = start(Settings { limits, ..Settings::default() }).await;
    server.publish("team/web", "1", noise(1, 16 << 20)).await;
    let mut download = server.get(&file("team/web", "1")).send().await.unwrap().bytes_stream();
    download.next().await.unwrap().unwrap();
    assert_eq!(server.tell_to_stop().await.unwrap(), Served { complete: false });
}

#[tokio::test]
async fn a_port_that_is_taken_is_told() {
    let server = start(Settings::default()).await;
    let repository = Repository::new(Storage::open(&Location::Memory).await.unwrap());
    let refused =
        Server::bind(server.address, repository, Settings::default(), Box::new(Seen::default())).await;
    let error = refused.err().unwrap();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
    let hint = posada_provider_api::Fault::hint(&error).unwrap();
    assert!(hint.contains("listens there already"), "{hint}");
}

#[tokio::test]
async fn figures_are_counted() {
    let server = start(Settings::default()).await;
    server.publish("team/web", "1", noise(1, 1000)).await;
    server.get(&file("team/web", "1")).send().await.unwrap().bytes().await.unwrap();
    let text = server.get("/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "posada_http_requests_total{method=\"PUT\",status=\"201\"} 1",
        "posada_box_downloads_total 1",
        "posada_http_requests_in_flight 1",
        "posada_http_request_seconds_count 3",
        "# TYPE posada_http_request_seconds histogram",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
