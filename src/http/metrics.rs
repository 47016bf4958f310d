//! `/metrics`: everything, as text.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderValue, VARY};

use super::body::Pieces;
use super::encoding::accepts_gzip;
use super::reply::{Reply, reply};
use super::{Server, reply as replies};
use crate::telemetry::own;

/// Text format 0.0.4, as Prometheus wants it named.
pub const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

pub async fn all(server: &Server, headers: &HeaderMap) -> Reply {
    let snapshot = server.store.snapshot();
    let mut pieces = Vec::new();
    if server.config.own_metrics {
        pieces.push(Bytes::from(own::render(&server.telemetry, &server.store)));
    }
    pieces.extend(snapshot.into_pieces());

    let gzip = accepts_gzip(headers);
    let stats = if gzip {
        &server.telemetry.scrapes_gzip
    } else {
        &server.telemetry.scrapes_identity
    };
    if gzip {
        let compressed = tokio::task::spawn_blocking(|| compress(pieces)).await;
        match compressed {
            Ok(Ok(compressed)) => pieces = vec![compressed],
            failed => {
                log::error!("the metrics cannot be compressed: {failed:?}");
                let problem = "the metrics cannot be compressed; ask for them without gzip\n";
                return replies::text(StatusCode::INTERNAL_SERVER_ERROR, problem);
            }
        }
    }
    let body = Pieces::new(pieces);
    stats.count.add(1);
    stats.bytes.add(body.len());
    let mut reply = reply(StatusCode::OK, TEXT_FORMAT, body);
    let headers = reply.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    reply
}

fn compress(pieces: Vec<Bytes>) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    for piece in pieces {
        encoder.write_all(&piece)?;
    }
    encoder.finish().map(Bytes::from)
}
