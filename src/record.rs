//! Records: how state travels between the core and storage.

/// A change of one record. A key names what the value describes, as in
/// `section/group/…`; the kinds of keys are listed where each is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key, unique among all records.
    pub key: Vec<u8>,
    /// The new value. `None` removes the record.
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// A record with a new value.
    pub fn set(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Record {
            key: key.into(),
            value: Some(value.into()),
        }
    }

    /// The removal of a record. Removing a record that does not exist succeeds.
    pub fn removed(key: impl Into<Vec<u8>>) -> Self {
        Record {
            key: key.into(),
            value: None,
        }
    }

    /// The bytes of the key and the value.
    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}
