//! The wire format: reads the fields of a message in place, and writes fields.
//! It does not know what fields mean.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

use std::str;

use super::error::FieldError;

/// Reads the fields of one message.
#[derive(Debug, Clone)]
pub struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    /// Byte of the body at which the message begins.
    start: usize,
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field<'b> {
    pub number: u32,
    pub payload: Payload<'b>,
    /// Byte of the body at which the field begins, with its tag.
    pub offset: usize,
    /// The whole field, with tag and length.
    pub raw: &'b [u8],
}

#[derive(Debug, Clone, Copy)]
pub enum Payload<'b> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    /// A text, a message or packed numbers, and the byte of the body at which
    /// they begin.
    Bytes(&'b [u8], usize),
    /// A group, a deprecated form that is skipped.
    Group,
}

/// Longest encoding of a 64-bit number, in bytes.
const LONGEST_VARINT: usize = 10;

impl<'b> Reader<'b> {
    /// `start` is the byte of the body at which `bytes` begins.
    pub fn new(bytes: &'b [u8], start: usize) -> Self {
        Reader {
            bytes,
            at: 0,
            start,
        }
    }

    /// Byte of the body at which the next field begins.
    pub fn offset(&self) -> usize {
        self.start + self.at
    }

    /// Length of the whole message, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn next(&mut self) -> Result<Option<Field<'b>>, Box<FieldError>> {
        if self.is_empty() {
            return Ok(None);
        }
        let start = self.at;
        let offset = self.offset();
        let (number, payload) = self.field()?;
        let raw = &self.bytes[start..self.at];
        Ok(Some(Field {
            number,
            payload,
            offset,
            raw,
        }))
    }

    fn field(&mut self) -> Result<(u32, Payload<'b>), Box<FieldError>> {
        let offset = self.offset();
        let (number, wire_type) = self.tag()?;
        let payload = match wire_type {
            0 => Payload::Varint(self.varint("a number")?),
            1 => Payload::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let (bytes, start) = self.delimited("the length of a field")?;
                Payload::Bytes(bytes, start)
            }
            3 => {
                self.skip_group()?;
                Payload::Group
            }
            5 => {
                self.fixed::<4>()?;
                Payload::Fixed32
            }
            other => {
                let found = format!("wire type {other}");
                return Err(FieldError::new(
                    offset,
                    "a field of a known wire type",
                    found,
                ));
            }
        };
        Ok((number, payload))
    }

    fn tag(&mut self) -> Result<(u32, u64), Box<FieldError>> {
        let offset = self.offset();
        let tag = self.varint("a field's tag")?;
        match u32::try_from(tag >> 3) {
            Ok(number @ 1..0x2000_0000) => Ok((number, tag & 7)),
            _ => {
                let found = format!("field number {}", tag >> 3);
                Err(FieldError::new(offset, "a field number from 1 on", found))
            }
        }
    }

    /// Skips a group to its end. Nested groups are counted, without recursion.
    fn skip_group(&mut self) -> Result<(), Box<FieldError>> {
        let mut depth = 1_usize;
        while depth > 0 {
            let offset = self.offset();
            let (_, wire_type) = self.tag()?;
            match wire_type {
                0 => drop(self.varint("a number")?),
                1 => drop(self.fixed::<8>()?),
                2 => drop(self.delimited("the length of a field")?),
                3 => depth += 1,
                4 => depth -= 1,
                5 => drop(self.fixed::<4>()?),
                other => {
                    let found = format!("wire type {other}");
                    return Err(FieldError::new(
                        offset,
                        "a field of a known wire type",
                        found,
                    ));
                }
            }
        }
        Ok(())
    }

    /// A number in groups of seven bits, the lowest first.
    pub fn varint(&mut self, expected: &'static str) -> Result<u64, Box<FieldError>> {
        let mut value = 0_u64;
        for place in 0..LONGEST_VARINT {
            let Some(byte) = self.bytes.get(self.at + place) else {
                let end = self.start + self.bytes.len();
                return Err(FieldError::new(end, expected, "the end"));
            };
            let bits = u64::from(byte & 0x7f);
            if place == LONGEST_VARINT - 1 && *byte > 1 {
                break;
            }
            value |= bits << (7 * place);
            if byte & 0x80 == 0 {
                self.at += place + 1;
                return Ok(value);
            }
        }
        let found = "one of more than 64 bits";
        Err(FieldError::new(self.offset(), expected, found))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Box<FieldError>> {
        match self.bytes[self.at..].first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => {
                let found = format!("the end after {}", self.bytes.len() - self.at);
                let expected = format!("{N} bytes of a number");
                Err(FieldError::new(self.offset(), expected, found))
            }
        }
    }

    /// Bytes after their length, and the byte of the body at which they begin.
    pub fn delimited(
        &mut self,
        expected: &'static str,
    ) -> Result<(&'b [u8], usize), Box<FieldError>> {
        let offset = self.offset();
        let length = self.varint(expected)?;
        let left = self.bytes.len() - self.at;
        let length = match usize::try_from(length) {
            Ok(length) if length <= left => length,
            _ => {
                let expected = format!("{expected} up to the {left} bytes that are left");
                return Err(FieldError::new(offset, expected, length.to_string()));
            }
        };
        let start = self.at;
        self.at += length;
        Ok((&self.bytes[start..self.at], self.start + start))
    }
}

impl<'b> Field<'b> {
    pub fn text(&self, what: &'static str) -> Result<&'b str, Box<FieldError>> {
        let (bytes, start) = self.bytes(what)?;
        str::from_utf8(bytes).map_err(|error| {
            let at = start + error.valid_up_to();
            FieldError::new(at, format!("{what} in UTF-8"), "other bytes")
        })
    }

    pub fn message(&self, what: &'static str) -> Result<Reader<'b>, Box<FieldError>> {
        let (bytes, start) = self.bytes(what)?;
        Ok(Reader::new(bytes, start))
    }

    fn bytes(&self, what: &'static str) -> Result<(&'b [u8], usize), Box<FieldError>> {
        match self.payload {
            Payload::Bytes(bytes, start) => Ok((bytes, start)),
            other => Err(self.not(what, other)),
        }
    }

    pub fn unsigned(&self, what: &'static str) -> Result<u64, Box<FieldError>> {
        match self.payload {
            Payload::Varint(value) => Ok(value),
            other => Err(self.not(what, other)),
        }
    }

    pub fn double(&self, what: &'static str) -> Result<f64, Box<FieldError>> {
        match self.payload {
            Payload::Fixed64(bits) => Ok(f64::from_bits(bits)),
            other => Err(self.not(what, other)),
        }
    }

    /// Calls `each` for a repeated whole number, single or packed.
    pub fn each_varint(
        &self,
        what: &'static str,
        mut each: impl FnMut(u64) -> Result<(), Box<FieldError>>,
    ) -> Result<(), Box<FieldError>> {
        match self.payload {
            Payload::Bytes(bytes, start) => {
                let mut packed = Reader::new(bytes, start);
                while !packed.is_empty() {
                    each(packed.varint(what)?)?;
                }
                Ok(())
            }
            _ => each(self.unsigned(what)?),
        }
    }

    /// Calls `each` for a repeated double, single or packed.
    pub fn each_double(
        &self,
        what: &'static str,
        mut each: impl FnMut(f64) -> Result<(), Box<FieldError>>,
    ) -> Result<(), Box<FieldError>> {
        match self.payload {
            Payload::Bytes(bytes, start) => {
                let mut packed = Reader::new(bytes, start);
                while !packed.is_empty() {
                    each(f64::from_le_bytes(packed.fixed()?))?;
                }
                Ok(())
            }
            _ => each(self.double(what)?),
        }
    }

    #[cold]
    fn not(&self, what: &'static str, payload: Payload<'_>) -> Box<FieldError> {
        let found = match payload {
            Payload::Varint(_) => "a varint",
            Payload::Fixed64(_) => "8 bytes of a number",
            Payload::Fixed32 => "4 bytes of a number",
            Payload::Bytes(..) => "bytes with a length",
            Payload::Group => "a group",
        };
        let number = self.number;
        FieldError::new(self.offset, format!("{what} in field {number}"), found)
    }
}

/// Decodes `sint32` and `sint64`, which have the sign in the lowest bit.
pub fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Encodes a `sint32` or `sint64`.
pub fn to_zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Writes a number without a tag.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes a number as a varint.
pub fn put_unsigned(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value);
}

/// Writes a double.
pub fn put_double(out: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(out, u64::from(number) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a text or an encoded message.
pub fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
