//! Encodes samples as `perftools.profiles.Profile`.
//!
//! Source: `proto/profile.proto` of <https://github.com/google/pprof>.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::{Frames, Symbol};

use super::FREQUENCY;
use crate::exposition::protobuf::{put_bytes, put_unsigned};

const NANOS: u64 = 1_000_000_000;

/// Numbers of the fields.
mod field {
    pub mod profile {
        pub const SAMPLE_TYPE: u32 = 1;
        pub const SAMPLE: u32 = 2;
        pub const LOCATION: u32 = 4;
        pub const FUNCTION: u32 = 5;
        pub const STRING: u32 = 6;
        pub const TIME_NANOS: u32 = 9;
        pub const DURATION_NANOS: u32 = 10;
        pub const PERIOD_TYPE: u32 = 11;
        pub const PERIOD: u32 = 12;
    }
    pub mod value_type {
        pub const TYPE: u32 = 1;
        pub const UNIT: u32 = 2;
    }
    pub mod sample {
        pub const LOCATION: u32 = 1;
        pub const VALUE: u32 = 2;
        pub const LABEL: u32 = 3;
    }
    pub mod label {
        pub const KEY: u32 = 1;
        pub const TEXT: u32 = 2;
    }
    pub mod location {
        pub const ID: u32 = 1;
        pub const LINE: u32 = 4;
    }
    pub mod line {
        pub const FUNCTION: u32 = 1;
        pub const LINE: u32 = 2;
    }
    pub mod function {
        pub const ID: u32 = 1;
        pub const NAME: u32 = 2;
        pub const SYSTEM_NAME: u32 = 3;
        pub const FILE: u32 = 4;
    }
}

/// Encodes stacks with their counts.
pub fn encode(
    samples: impl IntoIterator<Item = (Frames, isize)>,
    start: SystemTime,
    duration: Duration,
) -> std::io::Result<Bytes> {
    let period = NANOS / u64::from(FREQUENCY.unsigned_abs());
    let mut encoder = Encoder::default();
    encoder.text("");
    let samples_type = encoder.value_type("samples", "count");
    let time_type = encoder.value_type("cpu", "nanoseconds");
    put_bytes(&mut encoder.out, field::profile::SAMPLE_TYPE, &samples_type);
    put_bytes(&mut encoder.out, field::profile::SAMPLE_TYPE, &time_type);
    for (frames, count) in samples {
        let count = u64::try_from(count).unwrap_or_default();
        encoder.sample(&frames, count, period);
    }
    let since = start.duration_since(SystemTime::UNIX_EPOCH);
    let start = since.unwrap_or_default().as_nanos() as u64;
    let out = &mut encoder.out;
    put_unsigned(out, field::profile::TIME_NANOS, start);
    let duration = duration.as_nanos() as u64;
    put_unsigned(out, field::profile::DURATION_NANOS, duration);
    put_bytes(out, field::profile::PERIOD_TYPE, &time_type);
    put_unsigned(out, field::profile::PERIOD, period);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&encoder.finish())?;
    Ok(gzip.finish()?.into())
}

/// A profile under construction. Strings, functions and locations are written once and then
/// referred to by number.
#[derive(Debug, Default)]
struct Encoder {
    out: Vec<u8>,
    texts: HashMap<String, u64>,
    functions: HashMap<(Vec<u8>, u64), u64>,
    locations: HashMap<(u64, u32), u64>,
}

impl Encoder {
    fn text(&mut self, text: &str) -> u64 {
        if let Some(number) = self.texts.get(text) {
            return *number;
        }
        let number = self.texts.len() as u64;
        self.texts.insert(text.to_owned(), number);
        number
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> Vec<u8> {
        let mut out = Vec::new();
        put_unsigned(&mut out, field::value_type::TYPE, self.text(kind));
        put_unsigned(&mut out, field::value_type::UNIT, self.text(unit));
        out
    }

    /// Writes a stack, the innermost function first, and how often it was seen.
    fn sample(&mut self, frames: &Frames, count: u64, period: u64) {
        let mut sample = Vec::new();
        for symbol in frames.frames.iter().flatten() {
            let location = self.location(symbol);
            put_unsigned(&mut sample, field::sample::LOCATION, location);
        }
        put_unsigned(&mut sample, field::sample::VALUE, count);
        put_unsigned(&mut sample, field::sample::VALUE, count * period);
        let mut label = Vec::new();
        put_unsigned(&mut label, field::label::KEY, self.text("thread"));
        let thread = self.text(&frames.thread_name_or_id());
        put_unsigned(&mut label, field::label::TEXT, thread);
        put_bytes(&mut sample, field::sample::LABEL, &label);
        put_bytes(&mut self.out, field::profile::SAMPLE, &sample);
    }

    /// The number of the location of a symbol: a line of a function.
    fn location(&mut self, symbol: &Symbol) -> u64 {
        let function = self.function(symbol);
        let key = (function, symbol.lineno());
        if let Some(id) = self.locations.get(&key) {
            return *id;
        }
        // Number 0 means no location.
        let id = self.locations.len() as u64 + 1;
        self.locations.insert(key, id);
        let mut line = Vec::new();
        put_unsigned(&mut line, field::line::FUNCTION, function);
        put_unsigned(&mut line, field::line::LINE, u64::from(symbol.lineno()));
        let mut location = Vec::new();
        put_unsigned(&mut location, field::location::ID, id);
        put_bytes(&mut location, field::location::LINE, &line);
        put_bytes(&mut self.out, field::profile::LOCATION, &location);
        id
    }

    fn function(&mut self, symbol: &Symbol) -> u64 {
        let file = match &symbol.filename {
            Some(_) => self.text(&symbol.filename()),
            None => 0,
        };
        let key = (symbol.raw_name().to_vec(), file);
        if let Some(id) = self.functions.get(&key) {
            return *id;
        }
        let id = self.functions.len() as u64 + 1;
        self.functions.insert(key, id);
        let mut function = Vec::new();
        put_unsigned(&mut function, field::function::ID, id);
        put_unsigned(
            &mut function,
            field::function::NAME,
            self.text(&symbol.name()),
        );
        let system_name = self.text(&symbol.sys_name());
        put_unsigned(&mut function, field::function::SYSTEM_NAME, system_name);
        put_unsigned(&mut function, field::function::FILE, file);
        put_bytes(&mut self.out, field::profile::FUNCTION, &function);
        id
    }

    /// The whole message, with the table of strings.
    fn finish(mut self) -> Vec<u8> {
        let mut texts: Vec<(String, u64)> = self.texts.into_iter().collect();
        texts.sort_unstable_by_key(|(_, number)| *number);
        for (text, _) in texts {
            put_bytes(&mut self.out, field::profile::STRING, text.as_bytes());
        }
        self.out
    }
}

#[cfg(test)]
pub mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    /// The decompressed message of a profile.
    pub fn decompressed(body: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        GzDecoder::new(body).read_to_end(&mut message).unwrap();
        message
    }

    #[test]
    fn a_profile_without_samples_is_complete() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_nanos(300);
        let message = decompressed(&encode([], start, Duration::from_nanos(2)).unwrap());
        let expected = [
            &b"\x0a\x04\x08\x01\x10\x02\x0a\x04\x08\x03\x10\x04"[..],
            b"\x48\xac\x02\x50\x02\x5a\x04\x08\x03\x10\x04\x60\x80\xad\xe2\x04",
            b"\x32\0\x32\x07samples\x32\x05count\x32\x03cpu\x32\x0bnanoseconds",
        ];
        assert_eq!(message, expected.concat());
    }
}
