//! The items of the queue: whole, compressed requests.

use bytes::Bytes;
use snap::raw::{Decoder, Encoder, max_compress_len};

use super::convert;
use super::request::Protocol;

/// The contents of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples, including staleness markers.
    pub samples: u32,
    /// Native histograms.
    pub histograms: u32,
    /// Exemplars.
    pub exemplars: u32,
}

/// A request that is ready to be sent, as one block: the number of the protocol, three
/// [`Counts`] of four bytes, the lowest first, and the body, which is one snappy block.
#[derive(Debug, Clone)]
pub struct WriteItem(Bytes);

/// Bytes before the body.
const HEAD: usize = 13;

/// The numbers of the protocols.
const V1: u8 = 1;
const V2: u8 = 2;

/// Compresses requests.
pub struct Compressor {
    encoder: Encoder,
    /// Memory that is used again: clearing new memory takes a part of the time of compressing into
    /// it.
    block: Vec<u8>,
}

impl Compressor {
    /// A compressor without memory.
    pub fn new() -> Self {
        Compressor {
            encoder: Encoder::new(),
            block: Vec::new(),
        }
    }

    /// Compresses a request. `None` if it is larger than snappy allows, 4 GiB.
    pub fn compress(
        &mut self,
        protocol: Protocol,
        counts: Counts,
        request: &[u8],
    ) -> Option<WriteItem> {
        let block = &mut self.block;
        let room = HEAD + max_compress_len(request.len());
        if block.len() < room {
            block.resize(room, 0);
        }
        block[0] = match protocol {
            Protocol::V1 => V1,
            Protocol::V2 => V2,
        };
        let counts = [counts.samples, counts.histograms, counts.exemplars];
        for (place, count) in block[1..HEAD].chunks_exact_mut(4).zip(counts) {
            place.copy_from_slice(&count.to_le_bytes());
        }
        let length = self.encoder.compress(request, &mut block[HEAD..]).ok()?;
        // The item keeps no unused room.
        Some(WriteItem(Bytes::copy_from_slice(&block[..HEAD + length])))
    }
}

impl WriteItem {
    /// The request with this block.
    pub fn from_bytes(block: Bytes) -> Self {
        WriteItem(block)
    }

    /// The whole block.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The protocol of the body.
    pub fn protocol(&self) -> Protocol {
        match self.0.first() {
            Some(&V2) => Protocol::V2,
            _ => Protocol::V1,
        }
    }

    /// The contents of the body.
    pub fn counts(&self) -> Counts {
        let count = |place: usize| {
            let bytes = self.0.get(1 + 4 * place..5 + 4 * place);
            bytes.map_or(0, |bytes| {
                bytes
                    .iter()
                    .rfold(0, |sum, byte| sum << 8 | u32::from(*byte))
            })
        };
        Counts {
            samples: count(0),
            histograms: count(1),
            exemplars: count(2),
        }
    }

    /// The body.
    pub fn body(&self) -> Bytes {
        self.0.slice(HEAD.min(self.0.len())..)
    }

    /// The request in protocol 1.0; `None` if nothing of it remains.
    pub fn to_v1(&self, histograms: bool) -> Option<Self> {
        if self.protocol() == Protocol::V1 {
            return Some(self.clone());
        }
        let request = Decoder::new().decompress_vec(&self.body()).ok()?;
        let counts = self.counts();
        let counts = match histograms {
            true => counts,
            false => Counts {
                samples: counts.samples,
                ..Counts::default()
            },
        };
        let request = convert::to_v1(&request, histograms)?;
        Compressor::new().compress(Protocol::V1, counts, &request)
    }
}
