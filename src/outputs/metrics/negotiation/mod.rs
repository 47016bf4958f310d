//! Content negotiation of `/metrics`.
//!
//! - [`format`]: the format and the escaping of names, by `Accept`;
//! - [`coding`]: gzip, by `Accept-Encoding`.

mod coding;
mod format;

use hyper::header::HeaderMap;

use crate::ingest::config::Mode;
use crate::store::Snapshot;
use coding::accepts_gzip;
pub use format::{Media, Negotiated};
use format::{accepts_text, negotiate};

/// The representation that a client accepts.
#[derive(Debug, Clone)]
pub struct Representation {
    /// The format, if the whole output can be served in it.
    pub negotiated: Negotiated,
    /// Whether the client prefers gzip.
    pub gzip: bool,
    /// The mode in which apps are exposed.
    pub mode: Mode,
    /// Whether verbatim texts are converted to families, as far as they can be parsed:
    /// for clients that prefer protobuf or do not accept text. Others get verbatim text.
    pub as_families: bool,
}

impl Representation {
    /// The representation that the headers of a request ask for.
    pub fn from_headers(mode: Mode, headers: &HeaderMap) -> Self {
        let negotiated = negotiate(headers);
        let as_families = match negotiated.media {
            Media::Protobuf => true,
            Media::OpenMetrics => !accepts_text(headers),
            Media::Text | Media::Verbatim => false,
        };
        Representation {
            as_families: mode == Mode::Verbatim && as_families,
            gzip: accepts_gzip(headers),
            mode,
            negotiated,
        }
    }

    /// The representation for a snapshot: verbatim text can only be served as text.
    pub fn negotiated_for(&self, snapshot: &Snapshot) -> Negotiated {
        match self.is_merged(snapshot) {
            true => self.negotiated,
            false => self.negotiated.with_verbatim(),
        }
    }

    fn is_merged(&self, snapshot: &Snapshot) -> bool {
        self.mode == Mode::Merged || snapshot.is_merged()
    }
}
