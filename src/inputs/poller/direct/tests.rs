use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::header::ACCEPT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const KEPT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nm 1\n";

/// A server that performs one of `acts` for each request, and then repeats the last one.
struct Server {
    url: Url,
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Answer(&'static str),
    AnswerAndClose(&'static str),
    Close,
}

impl Server {
    async fn start(acts: &'static [Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (opened, requests) = (Arc::clone(&connections), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                let requests = Arc::clone(&requests);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while socket
                        .read_buf(&mut request)
                        .await
                        .is_ok_and(|read| read > 0)
                    {
                        if !request.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
                        assert!(text.starts_with("GET /path?q=1 HTTP/1.1\r\n"), "{text}");
                        assert!(text.contains(&format!("\r\nhost: {address}\r\n")), "{text}");
                        assert!(text.contains("\r\naccept: text\r\n"), "{text}");
                        assert!(text.contains("\r\nuser-agent: exporter-proxy/"), "{text}");
                        let number = requests.fetch_add(1, Ordering::SeqCst);
                        let act = acts.get(number).or(acts.last()).copied().unwrap();
                        if let Act::Answer(answer) | Act::AnswerAndClose(answer) = act {
                            socket.write_all(answer.as_bytes()).await.unwrap();
                        }
                        if !matches!(act, Act::Answer(_)) {
                            return;
                        }
                    }
                });
            }
        });
        Server {
            url: format!("http://{address}/path?q=1").parse().unwrap(),
            address,
            connections,
        }
    }

    async fn get(&self, client: &DirectClient, keep: bool) -> Result<String, DirectError> {
        assert_eq!(address(&self.url), Some(self.address));
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text"))]);
        let to = (self.address, &self.url);
        let response = client.get(to, &headers, 100, keep).await?;
        let body = String::from_utf8(response.body.finish().0).unwrap();
        Ok(format!("{} {body}", response.status.as_u16()))
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn connections_are_kept_where_another_request_can_follow() {
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nm \r\n2\r\n1\n\r\n0\r\n\r\n";
    const CLOSING: &str =
        "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 4\r\n\r\nm 1\n";
    const OLD: &str = "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nm 1\n";
    const LATER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nm 1\nmore";
    const FAILED: &str = "HTTP/1.1 500 Oh\r\nContent-Length: 400\r\n\r\nno";
    for (acts, expected, kept) in [
        (&[Act::Answer(KEPT)], "200 m 1\n", true),
        (&[Act::Answer(CHUNKED)], "200 m 1\n", true),
        (&[Act::Answer(CLOSING)], "200 m 1\n", false),
        (&[Act::Answer(OLD)], "200 m 1\n", false),
        (&[Act::Answer(LATER)], "200 m 1\n", false),
        (&[Act::Answer(FAILED)], "500 ", false),
        (
            &[Act::AnswerAndClose("HTTP/1.1 200 OK\r\n\r\nm 1\n")],
            "200 m 1\n",
            false,
        ),
    ] {
        let server = Server::start(acts).await;
        let client = DirectClient::default();
        for _ in 0..3 {
            assert_eq!(server.get(&client, true).await.unwrap(), expected);
        }
        let connections = if kept { 1 } else { 3 };
        assert_eq!(server.connections(), connections, "{acts:?}");
    }
}

#[tokio::test]
async fn a_request_that_a_kept_connection_loses_is_sent_again() {
    const ACTS: &[Act] = &[
        Act::Answer(KEPT),
        Act::Close,
        Act::AnswerAndClose(KEPT),
        Act::Answer(KEPT),
    ];
    let server = Server::start(ACTS).await;
    let client = DirectClient::default();
    for connections in [1, 2, 3] {
        assert_eq!(server.get(&client, true).await.unwrap(), "200 m 1\n");
        assert_eq!(server.connections(), connections);
    }
    let server = Server::start(&[Act::Close]).await;
    let problem = server.get(&client, true).await.unwrap_err();
    assert!(matches!(problem, DirectError::Request(_)), "{problem:?}");
    assert_eq!(server.connections(), 1, "a new connection is not replaced");
}

#[tokio::test]
async fn incomplete_responses_are_errors() {
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nm 1\n";
    const LONG: &str = "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n\
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let client = DirectClient::default();
    let server = Server::start(&[Act::Answer(KEPT), Act::AnswerAndClose(CUT)]).await;
    server.get(&client, true).await.unwrap();
    let problem = server.get(&client, true).await.unwrap_err();
    assert!(matches!(problem, DirectError::Body(_)), "{problem:?}");
    assert_eq!(server.connections(), 1, "a part of a response is one");
    let server = Server::start(&[Act::Answer(LONG)]).await;
    let problem = server.get(&client, true).await.unwrap_err();
    assert!(
        matches!(problem, DirectError::TooLarge(BodyLimit::Own)),
        "{problem:?}"
    );
    let server = Server::start(&[Act::Answer(KEPT), Act::Answer("nonsense\r\n\r\n")]).await;
    server.get(&client, true).await.unwrap();
    let problem = server.get(&client, true).await.unwrap_err();
    assert!(
        matches!(&problem, DirectError::Request(it) if it.is_parse()),
        "{problem:?}"
    );
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn few_connections_are_kept_and_unused_ones_are_closed() {
    let (one, other) = (
        Server::start(&[Act::Answer(KEPT)]).await,
        Server::start(&[Act::Answer(KEPT)]).await,
    );
    let client = DirectClient {
        limit: OnceLock::from(1),
        ..DirectClient::default()
    };
    for _ in 0..2 {
        one.get(&client, true).await.unwrap();
        other.get(&client, true).await.unwrap();
    }
    assert_eq!((one.connections(), other.connections()), (1, 2));
    client.close_unused(Duration::from_secs(60));
    one.get(&client, true).await.unwrap();
    assert_eq!(one.connections(), 1);
    client.close_unused(Duration::ZERO);
    for connections in [2, 3] {
        one.get(&client, false).await.unwrap();
        assert_eq!(one.connections(), connections);
    }
}

#[test]
fn only_addresses_over_plain_http_are_polled_directly() {
    for (url, expected) in [
        ("http://10.0.0.1/", Some("10.0.0.1:80")),
        ("http://[::1]:9100/metrics", Some("[::1]:9100")),
        ("https://10.0.0.1/", None),
        ("http://host:9100/", None),
    ] {
        let found = address(&url.parse().unwrap());
        assert_eq!(
            found,
            expected.map(|address| address.parse().unwrap()),
            "{url}"
        );
    }
}
