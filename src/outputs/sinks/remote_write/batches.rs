//! Groups series into requests, and hands them to the queue.

use std::fmt;

use super::item::{Compressor, Counts, WriteItem};
use super::request::{Metadata, Point, Protocol, RequestBuilder, SeriesLabels};
use super::symbols::Symbols;
use crate::exposition::FamilyHead;

/// Bounds of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Samples and histograms, or entries of metadata.
    pub samples: usize,
    /// Bytes before compression. The series that reaches this is still added.
    pub bytes: usize,
}

/// Takes a request. Returns whether there was room for it.
pub type Push = Box<dyn FnMut(WriteItem) -> bool + Send>;

/// Builds requests up to their limits.
pub struct Batches {
    builder: RequestBuilder,
    counts: Counts,
    /// Entries of the request, including those that `counts` has no field for.
    entries: usize,
    limits: BatchLimits,
    push: Push,
    compressor: Compressor,
    /// Whether a request found no room since the last call of `take_lost`.
    lost: bool,
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("builder", &self.builder)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Batches {
    /// A builder that hands requests to `push`.
    pub fn new(protocol: Protocol, limits: BatchLimits, push: Push) -> Self {
        Batches {
            builder: RequestBuilder::new(protocol),
            counts: Counts::default(),
            entries: 0,
            limits,
            push,
            compressor: Compressor::new(),
            lost: false,
        }
    }

    /// The protocol of the requests.
    pub fn protocol(&self) -> Protocol {
        self.builder.protocol()
    }

    /// Makes requests of another protocol from now on. No request may be unfinished.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.builder = RequestBuilder::new(protocol);
    }

    /// Adds a series with one point.
    pub fn add(
        &mut self,
        labels: &SeriesLabels,
        metadata: Metadata,
        point: Point<'_>,
        symbols: &mut Symbols,
    ) {
        if self.entries == 0 {
            self.builder.begin(symbols);
        }
        self.builder.add(labels, metadata, point, symbols);
        match point {
            Point::Value(..) => self.counts.samples += 1,
            Point::Histogram(point) => {
                self.counts.histograms += 1;
                self.counts.exemplars += point.exemplars.len() as u32;
            }
        }
        self.note_entry();
    }

    /// Adds the metadata of a family, in protocol 1.0.
    pub fn add_metadata(&mut self, head: &FamilyHead, symbols: &mut Symbols) {
        if self.entries == 0 {
            self.builder.begin(symbols);
        }
        self.builder.add_metadata(head);
        self.note_entry();
    }

    fn note_entry(&mut self) {
        self.entries += 1;
        if self.entries >= self.limits.samples || self.builder.len() >= self.limits.bytes {
            self.flush();
        }
    }

    /// Hands over the unfinished request, if there is one.
    pub fn flush(&mut self) {
        if self.entries == 0 {
            return;
        }
        let counts = std::mem::take(&mut self.counts);
        self.entries = 0;
        let (protocol, request) = (self.builder.protocol(), self.builder.request());
        let item = self.compressor.compress(protocol, counts, request);
        self.lost |= !item.is_some_and(|item| (self.push)(item));
    }

    /// Whether a request found no room since the last call.
    pub fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }
}
