//! Patterns of paths.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A parsed pattern. For its syntax, see [`Route::pattern`](super::Route::pattern).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The segments of the path; `None` for a `{name}`, which matches any segment.
    segments: Vec<Option<&'static str>>,
    rest: Rest,
    /// Whether the path may begin with more than one slash. Clients send that when their
    /// base URL ends in a slash.
    extra_slashes: bool,
}

/// Whether a pattern ends in `{*name}`, which matches the rest of the path.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    No,
    /// `/{*name}`.
    Required,
    /// `[/{*name}]`.
    Optional,
}

impl Pattern {
    /// Parses a pattern.
    pub(super) fn new(pattern: &'static str, extra_slashes: bool) -> Self {
        let (pattern, rest) = match pattern.split_once("{*") {
            None => (pattern, Rest::No),
            Some((before, _)) => match before.strip_suffix("[/") {
                Some(before) => (before, Rest::Optional),
                None => (before, Rest::Required),
            },
        };
        let segments = pattern.split('/').filter(|segment| !segment.is_empty());
        Pattern {
            segments: segments
                .map(|segment| (!segment.starts_with('{')).then_some(segment))
                .collect(),
            rest,
            extra_slashes,
        }
    }

    /// The first segment; empty if it is a parameter.
    pub(super) fn first(&self) -> &'static str {
        self.segments.first().copied().flatten().unwrap_or_default()
    }

    /// Returns the text of the path that the pattern captures, if it matches. `segments`
    /// returns the decoded segments of `path`; `None` if one is not UTF-8.
    pub(super) fn captures<'p>(
        &self,
        path: &'p str,
        segments: impl FnOnce() -> Option<&'p [Cow<'p, str>]>,
    ) -> Option<Cow<'p, str>> {
        if self.rest != Rest::No {
            return self.rest_of(path).map(Cow::Borrowed);
        }
        if self.extra_slashes && !self.matches_literally(path) {
            return None;
        }
        let mut segments = segments()?;
        if self.extra_slashes {
            while let [first, rest @ ..] = segments
                && first.is_empty()
            {
                segments = rest;
            }
        }
        if segments.len() != self.segments.len() {
            return None;
        }
        let mut captured = Cow::Borrowed("");
        for (segment, wanted) in segments.iter().zip(&self.segments) {
            match wanted {
                Some(wanted) if segment == wanted => {}
                Some(_) => return None,
                None => captured = segment.clone(),
            }
        }
        Some(captured)
    }

    /// Whether the path matches without percent-encoding. A proxy in front may block paths
    /// by such a comparison, and another spelling must not bypass it.
    fn matches_literally(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut wanted = self.segments.iter();
        path.split('/').all(|segment| match wanted.next() {
            Some(wanted) => wanted.is_none_or(|wanted| wanted == segment),
            None => false,
        })
    }

    /// The rest of the path after the segments of the pattern, not decoded.
    fn rest_of<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut rest = path.trim_start_matches('/');
        for (place, segment) in self.segments.iter().enumerate() {
            rest = rest.strip_prefix((*segment)?)?;
            let last = place + 1 == self.segments.len();
            if last && rest.is_empty() {
                return (self.rest == Rest::Optional).then_some("");
            }
            rest = rest.strip_prefix('/')?;
        }
        Some(rest.trim_start_matches('/'))
    }
}

/// The segments of a path, decoded after the split, so that `%2F` is part of a segment.
/// One trailing slash is ignored. `None` if a segment is not UTF-8.
pub(super) fn segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8().ok())
        .collect()
}
