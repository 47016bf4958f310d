//! What a body is written in.

use std::borrow::Cow;

use super::Rejection;
use crate::exposition::{InputFormat, detect_format};
use crate::reason::Reason;

/// What a body's `Content-Type` says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    /// Text 0.0.4, by its version.
    Text,
    /// Text of either format: most who push by hand name no type, and `curl`
    /// names that of a form.
    Untold,
    OpenMetrics,
    Protobuf,
}

/// The line that ends OpenMetrics.
const END: &str = "# EOF\n";

impl Media {
    /// What is not known is text, as Pushgateway has it.
    pub fn of(content_type: &str) -> Result<Self, Rejection> {
        let mut parts = content_type.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let parameter = |key: &'static str| {
            let told = parts.clone().filter_map(|part| part.split_once('='));
            let told = told.filter(move |(name, _)| name.trim().eq_ignore_ascii_case(key));
            told.map(|(_, value)| value.trim().trim_matches('"'))
        };
        match name.as_str() {
            "application/openmetrics-text" => Ok(Media::OpenMetrics),
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
                Ok(Media::Protobuf)
            }
            "text/plain" if parameter("version").next().is_some() => Ok(Media::Text),
            _ => Ok(Media::Untold),
        }
    }

    /// A text and its format. Unlike an answer, whose end may be missing, a
    /// body is known to be whole, so OpenMetrics need not say where it ends.
    pub fn read(self, text: &str) -> (Cow<'_, str>, InputFormat) {
        let format = match self {
            Media::OpenMetrics => InputFormat::OpenMetrics,
            Media::Untold => detect_format(text),
            Media::Text | Media::Protobuf => InputFormat::Text,
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

    /// What a refusal says of the format that was read.
    pub fn how_read(self, format: InputFormat) -> &'static str {
        match (self, format) {
            (Media::Untold, InputFormat::OpenMetrics) => {
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
    fn the_type_decides_and_only_what_says_nothing_is_guessed() {
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
            let media = Media::of(content_type).expect("a type");
            let read = ["m 1\n# EOF\n", "m 1\n"].map(|body| media.read(body).1);
            assert_eq!(read, formats, "{content_type}");
        }
    }

    #[test]
    fn open_metrics_gets_its_end_once() {
        for (body, read) in [
            ("", "# EOF\n"),
            ("m 1", "m 1\n# EOF\n"),
            ("m 1\n", "m 1\n# EOF\n"),
            ("m 1\n# EOF", "m 1\n# EOF"),
            ("m 1\n# EOF\n", "m 1\n# EOF\n"),
            ("# EOF\nm 1\n", "# EOF\nm 1\n# EOF\n"),
        ] {
            assert_eq!(Media::OpenMetrics.read(body).0, read, "{body:?}");
        }
        assert_eq!(Media::Text.read("m 1").0, "m 1");
    }
}
