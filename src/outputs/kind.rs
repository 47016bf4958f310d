//! The parameter `kind`: chooses among an app, a target and a group of one name.

use crate::http::query;
use crate::store::Producer;

/// The kind that a query asks for, one of `known`; `None` if it asks for none.
///
/// # Errors
///
/// The value is not the word for one of them.
pub fn of_query(query: &str, known: &[Producer]) -> Result<Option<Producer>, String> {
    let Some(word) = query::value(query, "kind") else {
        return Ok(None);
    };
    let found = known.iter().find(|it| it.as_str() == word);
    found.copied().map(Some).ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|it| it.as_str()).collect();
        format!("kind is one of {}, not {word:?}", words.join(", "))
    })
}
