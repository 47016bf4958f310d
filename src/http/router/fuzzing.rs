//! Properties of paths and queries, for tests and `fuzz/`.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::check_parameters;
use super::pattern::segments;
use crate::http::query;
use crate::ingest::Group;
use crate::ingest::selector::Selectors;

/// A path with a query.
///
/// Segments that are encoded again decode to the same. The key of a group gives the same
/// group, and its labels give the same key.
pub fn paths(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if let Some(found) = segments(path) {
        let encoded: Vec<String> = found
            .iter()
            .map(|segment| utf8_percent_encode(segment, NON_ALPHANUMERIC).to_string())
            .collect();
        // One more slash, since a path may end in an empty segment.
        let again = format!("/{}/", encoded.join("/"));
        let again = segments(&again).expect("it is UTF-8");
        assert!(found.is_empty() || again == found, "{path:?}: {again:?}");
    }
    for utf8_names in [false, true] {
        for group in [
            Group::from_path(path, utf8_names),
            Group::from_labels_path(path, utf8_names),
        ] {
            let Ok(group) = group else { continue };
            let key = group.key();
            let again = Group::from_key(&key).expect("a key");
            assert_eq!(again.labels(), group.labels(), "{path:?}: {key}");
            let again = Group::from_labels(group.labels().clone(), utf8_names);
            if let Ok(again) = again {
                assert_eq!(again.key(), key);
            }
            if let Ok(selectors) = Selectors::for_groups(&query::values(query, "match[]")) {
                selectors.matches(&group);
            }
        }
    }
    for name in query::names(query) {
        assert_eq!(
            query::value(query, &name),
            query::values(query, &name).into_iter().next()
        );
    }
    let _ = query::flag(query, "wide");
    let _ = Selectors::for_series(&query::values(query, "match[]"));
    if check_parameters("match[]* older_than dry_run", query).is_ok() {
        let known = ["match[]", "older_than", "dry_run"];
        assert!(
            query::names(query)
                .iter()
                .all(|name| known.contains(&name.as_str()))
        );
    }
}
