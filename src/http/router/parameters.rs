//! Checks the names of query parameters.

use super::ANY_PARAMETER;
use crate::http::query;

/// The similarity from which a known name is suggested for an unknown one.
const MIN_SIMILARITY: f64 = 0.66;

/// Checks a query against the parameters of a route.
///
/// # Errors
///
/// A name is unknown, or it is repeated but must not be. The message suggests the nearest
/// known name.
pub fn check_parameters(parameters: &'static str, query: &str) -> Result<(), String> {
    if parameters == ANY_PARAMETER || query.is_empty() {
        return Ok(());
    }
    let names = query::names(query);
    for (place, name) in names.iter().enumerate() {
        match known(parameters).find(|(known, _)| known == name) {
            None => return Err(unknown(parameters, name)),
            Some((_, false)) if names[..place].contains(name) => {
                return Err(format!("the parameter {name} is given more than once"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The names of the parameters, and whether each may be repeated.
fn known(parameters: &'static str) -> impl Iterator<Item = (&'static str, bool)> {
    let names = parameters.split_ascii_whitespace();
    names.map(|name| match name.strip_suffix('*') {
        Some(name) => (name, true),
        None => (name, false),
    })
}

/// The message for an unknown name.
fn unknown(parameters: &'static str, name: &str) -> String {
    let near = known(parameters)
        .map(|(known, _)| (similarity(name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY);
    let names: Vec<&str> = known(parameters).map(|(known, _)| known).collect();
    let hint = match near {
        Some((_, near)) => format!("did you mean {near}?"),
        None if names.is_empty() => "no parameters are known here".to_owned(),
        None => format!("known here: {}", names.join(", ")),
    };
    // The client chooses the length of the name, so it is cut.
    let name: String = name.chars().take(80).collect();
    format!("unknown parameter {name:?}; {hint}")
}

/// The similarity of two names, from 0 to 1: the larger of two measures, one of shared
/// letters and one of edits.
fn similarity(name: &str, known: &str) -> f64 {
    strsim::jaro_winkler(name, known).max(strsim::normalized_levenshtein(name, known))
}
