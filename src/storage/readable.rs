//! Stored values as JSON, for people.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Converts the records of a state to JSON and back.
#[derive(Debug, Clone, Copy)]
pub struct ReadableForm {
    /// The prefix of the keys.
    pub prefix: &'static str,
    /// Converts a stored value to JSON; `None` if it is not a value of this state.
    pub to_json: fn(&[u8]) -> Option<Value>,
    /// Converts JSON to a stored value.
    pub from_json: fn(Value) -> Result<Vec<u8>, String>,
}

impl ReadableForm {
    /// The form for values that consist of a version byte and a record in postcard.
    pub const fn of_record<T, const VERSION: u8>(prefix: &'static str) -> Self
    where
        T: Serialize + DeserializeOwned,
    {
        ReadableForm {
            prefix,
            to_json: to_json::<T, VERSION>,
            from_json: from_json::<T, VERSION>,
        }
    }
}

fn to_json<T, const VERSION: u8>(value: &[u8]) -> Option<Value>
where
    T: Serialize + DeserializeOwned,
{
    let (version, rest) = value.split_first()?;
    let record: T = postcard::from_bytes(rest).ok()?;
    let json = serde_json::to_value(&record).ok();
    json.filter(|_| *version == VERSION)
}

fn from_json<T, const VERSION: u8>(json: Value) -> Result<Vec<u8>, String>
where
    T: Serialize + DeserializeOwned,
{
    let record: T = serde_json::from_value(json).map_err(|it| it.to_string())?;
    postcard::to_extend(&record, vec![VERSION]).map_err(|it| it.to_string())
}
