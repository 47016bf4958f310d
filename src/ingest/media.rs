//! Media types of pushed bodies.

use std::borrow::Cow;

use super::Rejection;
use crate::exposition::{InputFormat, detect_format};
use crate::reason::Reason;

/// The format that a `Content-Type` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// Text format 0.0.4: plain text with a version.
    Text,
    /// Text in either format. Most manual pushes name no type, and `curl` names that of a form.
    Unspecified,
    /// OpenMetrics text.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

/// The last line of an OpenMetrics text.
const END: &str = "# EOF\n";

impl MediaType {
    /// Parses a `Content-Type`. An unknown type is text, as in Pushgateway.
    ///
    /// # Errors
    ///
    /// The type is protobuf with another message or encoding.
    pub fn parse(content_type: &str) -> Result<Self, Rejection> {
        let mut parts = content_type.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameter = |key: &'static str| {
            let pairs = parts.clone().filter_map(|part| part.split_once('='));
            let matching = pairs.filter(move |(name, _)| name.trim().eq_ignore_ascii_case(key));
            matching.map(|(_, value)| value.trim().trim_matches('"'))
        };
        match name.as_str() {
            "application/openmetrics-text" => Ok(MediaType::OpenMetrics),
            "application/vnd.google.protobuf" => {
                for (key, expected) in [
                    ("proto", "io.prometheus.client.MetricFamily"),
                    ("encoding", "delimited"),
                ] {
                    if let Some(value) = parameter(key).find(|value| *value != expected) {
                        let message = format!(
                            "a protobuf body must have {key}={expected} in its Content-Type, not {value:?}"
                        );
                        return Err(Rejection::new(Reason::UnsupportedMedia, &message));
                    }
                }
                Ok(MediaType::Protobuf)
            }
            "text/plain" if parameter("version").next().is_some() => Ok(MediaType::Text),
            _ => Ok(MediaType::Unspecified),
        }
    }

    /// The text in its detected format. OpenMetrics gets its `# EOF` line if it lacks
    /// one: unlike a scraped text, a pushed body is known to be complete.
    pub fn read(self, text: &str) -> (Cow<'_, str>, InputFormat) {
        let format = match self {
            MediaType::OpenMetrics => InputFormat::OpenMetrics,
            MediaType::Unspecified => detect_format(text),
            MediaType::Text | MediaType::Protobuf => InputFormat::Text,
        };
        let has_end =
            format == InputFormat::Text || detect_format(text) == InputFormat::OpenMetrics;
        let text = match text {
            text if has_end => Cow::Borrowed(text),
            "" => Cow::Borrowed(END),
            text if text.ends_with('\n') => Cow::Owned([text, END].concat()),
            text => Cow::Owned([text, "\n", END].concat()),
        };
        (text, format)
    }

    /// The note in a rejection that says which format was assumed.
    pub fn format_note(self, format: InputFormat) -> &'static str {
        match (self, format) {
            (MediaType::Unspecified, InputFormat::OpenMetrics) => {
                " (read as OpenMetrics, since its last line is \"# EOF\"; \
                 send Content-Type: text/plain; version=0.0.4 if it is not)"
            }
            (_, InputFormat::OpenMetrics) => " (read as OpenMetrics)",
            (_, InputFormat::Text) => " (read as text 0.0.4)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_detected_only_if_the_type_names_none() {
        const GUESSED: [InputFormat; 2] = [InputFormat::OpenMetrics, InputFormat::Text];
        const TEXT: [InputFormat; 2] = [InputFormat::Text; 2];
        const OPEN: [InputFormat; 2] = [InputFormat::OpenMetrics; 2];
        for (content_type, formats) in [
            ("", GUESSED),
            ("text/plain", GUESSED),
            ("text/plain; charset=utf-8", GUESSED),
            ("application/x-www-form-urlencoded", GUESSED),
            ("text/plain; version=0.0.4", TEXT),
            ("Text/Plain;charset=utf-8; Version=\"0.0.4\"", TEXT),
            ("text/plain; version=1.0.0; escaping=allow-utf-8", TEXT),
            ("application/openmetrics-text", OPEN),
            ("application/openmetrics-text; version=1.0.0", OPEN),
        ] {
            let media = MediaType::parse(content_type).expect("the type is valid");
            let read = ["m 1\n# EOF\n", "m 1\n"].map(|body| media.read(body).1);
            assert_eq!(read, formats, "{content_type}");
        }
    }

    #[test]
    fn open_metrics_gets_its_last_line_once() {
        for (body, read) in [
            ("", "# EOF\n"),
            ("m 1", "m 1\n# EOF\n"),
            ("m 1\n", "m 1\n# EOF\n"),
            ("m 1\n# EOF", "m 1\n# EOF"),
            ("m 1\n# EOF\n", "m 1\n# EOF\n"),
            ("# EOF\nm 1\n", "# EOF\nm 1\n# EOF\n"),
        ] {
            assert_eq!(MediaType::OpenMetrics.read(body).0, read, "{body:?}");
        }
        assert_eq!(MediaType::Text.read("m 1").0, "m 1");
    }
}
