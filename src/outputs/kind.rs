//! The parameter `kind`, which chooses among an app, a target and a group of one name.

use crate::http::query;
use crate::store::Producer;

/// All kinds that have names.
pub const ALL: [Producer; 3] = [Producer::App, Producer::Target, Producer::Group];

/// The kind that a query asks for, one of `known`; `None` if it asks for none.
///
/// # Errors
///
/// The value is not the word for one of them.
pub fn of_query(query: &str, known: &[Producer]) -> Result<Option<Producer>, String> {
    let word = query::value(query, "kind");
    word.map(|word| of_word(&word, known)).transpose()
}

/// The kinds that a query asks for; all if it asks for none.
///
/// # Errors
///
/// A value is not the word for one of them.
pub fn all_of_query(query: &str) -> Result<Vec<Producer>, String> {
    let words = query::values(query, "kind");
    match words.is_empty() {
        true => Ok(ALL.to_vec()),
        false => words.iter().map(|word| of_word(word, &ALL)).collect(),
    }
}

fn of_word(word: &str, known: &[Producer]) -> Result<Producer, String> {
    let found = known.iter().find(|it| it.as_str() == word);
    found.copied().ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|it| it.as_str()).collect();
        format!("kind must be one of {}, not {word:?}", words.join(", "))
    })
}
