//! DogStatsD's events and service checks.
//!
//! ```text
//! _e{5,4}:title|text|d:time|h:host|k:key|p:priority|s:source|t:type|#tag:value
//! _sc|name|status|d:time|h:host|#tag:value|m:message
//! ```
//!
//! Titles and texts do not become labels, since each could be a different one.

use std::borrow::Cow;
use std::str;

use super::{malformed, tags};
use crate::inputs::operations::labels::LabelPairs;
use crate::inputs::operations::rejection::Rejection;
use crate::reason::Reason;

/// An event or the result of a service check.
#[derive(Debug, PartialEq)]
pub(in crate::inputs::operations) struct Notice<'a> {
    pub(in crate::inputs::operations) kind: NoticeKind,
    pub(in crate::inputs::operations) labels: LabelPairs<'a>,
}

/// The kind of a [`Notice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inputs::operations) enum NoticeKind {
    Event,
    /// A service check, with its status: 0 is good, 1 a warning, 2 critical, and 3 unknown.
    Check(u8),
}

impl<'a> Notice<'a> {
    /// Parses a line. `None` if it is neither an event nor a check.
    ///
    /// # Errors
    ///
    /// The line begins like one of them but is invalid.
    pub(in crate::inputs::operations) fn parse(line: &'a [u8]) -> Option<Result<Self, Rejection>> {
        if !super::is_event_or_check(line) {
            return None;
        }
        let Ok(line) = str::from_utf8(line) else {
            let problem = "the line is not UTF-8";
            return Some(Err(Rejection::new(Reason::InvalidUtf8, problem)));
        };
        let line = line.trim_end();
        let parsed = match (line.strip_prefix("_e{"), line.strip_prefix("_sc|")) {
            (Some(event), _) => Self::event(event).ok_or_else(|| {
                malformed(format!(
                    "expected _e{{5,4}}:title|text and fields, not {line:?}"
                ))
            }),
            (_, check) => check.and_then(Self::check).ok_or_else(|| {
                malformed(format!(
                    "expected _sc|name|status and fields, with a status from 0 to 3, not {line:?}"
                ))
            }),
        };
        Some(parsed)
    }

    fn event(text: &'a str) -> Option<Self> {
        let (lengths, rest) = text.split_once("}:")?;
        let (title, text) = lengths.split_once(',')?;
        let (title, text): (usize, usize) = (title.parse().ok()?, text.parse().ok()?);
        // Lengths are in bytes of UTF-8.
        let after_title = rest.get(title..)?.strip_prefix('|')?;
        let fields = after_title.get(text..)?;
        let mut labels = vec![
            (Cow::Borrowed("alert_type"), Cow::Borrowed("info")),
            (Cow::Borrowed("priority"), Cow::Borrowed("normal")),
        ];
        for field in fields.strip_prefix('|').unwrap_or(fields).split('|') {
            let (name, value) = match field.split_at_checked(2) {
                Some(("t:", value)) => ("alert_type", value),
                Some(("p:", value)) => ("priority", value),
                Some(("s:", value)) => ("source_type", value),
                Some(("h:", value)) => ("host", value),
                _ => {
                    labels.extend(
                        field
                            .strip_prefix('#')
                            .into_iter()
                            .flat_map(|it| tags(it, ':')),
                    );
                    continue;
                }
            };
            labels.push((Cow::Borrowed(name), Cow::Borrowed(value)));
        }
        Some(Notice {
            kind: NoticeKind::Event,
            labels,
        })
    }

    fn check(text: &'a str) -> Option<Self> {
        let mut fields = text.split('|');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let status = match fields.next()? {
            "0" => 0,
            "1" => 1,
            "2" => 2,
            "3" => 3,
            _ => return None,
        };
        let mut labels = vec![(Cow::Borrowed("check"), Cow::Borrowed(name))];
        for field in fields {
            match field.split_at_checked(2) {
                // A message is the last field, and may contain any characters.
                Some(("m:", _)) => break,
                Some(("h:", host)) => labels.push((Cow::Borrowed("host"), Cow::Borrowed(host))),
                _ => labels.extend(
                    field
                        .strip_prefix('#')
                        .into_iter()
                        .flat_map(|it| tags(it, ':')),
                ),
            }
        }
        Some(Notice {
            kind: NoticeKind::Check(status),
            labels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> Option<String> {
        let notice = Notice::parse(line.as_bytes())
            .expect("it begins like one")
            .ok()?;
        let labels = notice
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        Some(format!(
            "{:?} {}",
            notice.kind,
            labels.collect::<Vec<_>>().join(",")
        ))
    }

    #[test]
    fn events_and_checks_are_parsed() {
        for (line, expected) in [
            (
                "_e{5,4}:title|text",
                Some("Event alert_type=info,priority=normal"),
            ),
            (
                "_e{5,4}:ti|le|te|t|d:1|h:web|k:x|p:low|s:ci|t:error|#a:b,flag|c:id",
                Some(
                    "Event alert_type=info,priority=normal,host=web,priority=low,source_type=ci,alert_type=error,a=b,flag=true",
                ),
            ),
            (
                "_e{2,0}:\u{e9}|",
                Some("Event alert_type=info,priority=normal"),
            ),
            ("_e{6,4}:title|text", None),
            ("_e{5,9}:title|text", None),
            ("_e{1,1}:\u{e9}|x", None),
            ("_e{x,1}:a|b", None),
            ("_e{1,1}a|b", None),
            ("_sc|db up|0", Some("Check(0) check=db up")),
            (
                "_sc|db|2|d:1|h:web|#a:b|m:it is|h:no",
                Some("Check(2) check=db,host=web,a=b"),
            ),
            ("_sc|db|4", None),
            ("_sc|db", None),
            ("_sc||1", None),
        ] {
            assert_eq!(shown(line).as_deref(), expected, "{line}");
        }
        assert!(Notice::parse(b"a:1|c").is_none());
        assert!(Notice::parse(b"_sc|\xff|0").unwrap().is_err());
    }
}
