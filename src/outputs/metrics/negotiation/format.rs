//! Negotiates the format by `Accept`.

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

use crate::exposition::{Escaping, OutputFormat};

/// A format and its escaping of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// The format.
    pub media: Media,
    /// How names are escaped that the format does not allow.
    pub escaping: Escaping,
}

/// A format of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// The text format, 0.0.4 or 1.0.0.
    Text,
    /// The text format of output that is verbatim in part. That part is not parsed.
    Verbatim,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Delimited protobuf messages.
    Protobuf,
}

/// The media type of the text format 0.0.4.
const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

impl Negotiated {
    /// The format that every client accepts.
    const DEFAULT: Negotiated = Negotiated {
        media: Media::Text,
        escaping: Escaping::Underscores,
    };

    /// The format of output that is verbatim in part, with the same escaping for the
    /// families that are not.
    pub fn with_verbatim(self) -> Self {
        Negotiated {
            media: Media::Verbatim,
            ..self
        }
    }

    /// The format in which the store renders pages.
    pub fn output_format(self) -> OutputFormat {
        match self.media {
            Media::Text | Media::Verbatim => OutputFormat::Text(self.escaping),
            Media::OpenMetrics => OutputFormat::OpenMetrics(self.escaping),
            Media::Protobuf => OutputFormat::Canonical,
        }
    }

    /// The value of `Content-Type`.
    pub fn content_type(self) -> HeaderValue {
        const PROTOBUF: &str = "application/vnd.google.protobuf; \
            proto=io.prometheus.client.MetricFamily; encoding=delimited";
        let kind = match self.media {
            Media::Verbatim => return TEXT_FORMAT,
            // A client that names no escaping scheme may not know the parameter.
            Media::Text if self.escaping == Escaping::Underscores => return TEXT_FORMAT,
            Media::Text if self.escaping == Escaping::AllowUtf8 => {
                "text/plain; version=1.0.0; charset=utf-8"
            }
            Media::Text => "text/plain; version=0.0.4; charset=utf-8",
            Media::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Media::Protobuf => PROTOBUF,
        };
        let value = format!("{kind}; escaping={}", self.escaping.as_str());
        HeaderValue::try_from(value).unwrap_or(TEXT_FORMAT)
    }
}

/// Whether `Accept` names the text format.
pub fn accepts_text(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let mut offers = values.flat_map(|value| value.split(',')).filter_map(offer);
    offers.any(|(quality, offer)| quality > 0.0 && offer.media == Media::Text)
}

/// Chooses the format with the highest quality in `Accept`, and the first of equal ones. If
/// no format is acceptable, it chooses the text format rather than an error.
pub fn negotiate(headers: &HeaderMap) -> Negotiated {
    let mut best: Option<(f32, Negotiated)> = None;
    for value in headers.get_all(ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',') {
            let Some((quality, offer)) = offer(range) else {
                continue;
            };
            if quality > 0.0 && best.is_none_or(|(highest, _)| quality > highest) {
                best = Some((quality, offer));
            }
        }
    }
    best.map_or(Negotiated::DEFAULT, |(_, offer)| offer)
}

/// The quality and the format of a media range, if the format is supported.
fn offer(range: &str) -> Option<(f32, Negotiated)> {
    let mut parameters = range.split(';').map(str::trim);
    let media_type = parameters.next()?.to_ascii_lowercase();
    let mut quality = 1.0;
    let mut version = None;
    let mut escaping = Escaping::Underscores;
    let mut proto = None;
    let mut encoding = None;
    for parameter in parameters {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            // An invalid quality means not acceptable.
            "q" => quality = value.parse().unwrap_or(0.0),
            "version" => version = Some(value),
            "proto" => proto = Some(value),
            "encoding" => encoding = Some(value),
            // An unknown scheme is ignored, as client_golang does.
            "escaping" => escaping = Escaping::from_keyword(value).unwrap_or_default(),
            _ => {}
        }
    }
    // The other encodings of this media type are for people to read.
    let delimited =
        (proto, encoding) == (Some("io.prometheus.client.MetricFamily"), Some("delimited"));
    let media = match (media_type.as_str(), version) {
        ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => Media::OpenMetrics,
        ("text/plain", None | Some("0.0.4" | "1.0.0")) | ("text/*" | "*/*", _) => Media::Text,
        ("application/vnd.google.protobuf", _) if delimited => Media::Protobuf,
        _ => return None,
    };
    Some((quality, Negotiated { media, escaping }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supported_format_with_the_highest_quality_is_chosen() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let format = |open_metrics, underscores| {
            let escaping = match underscores {
                true => Escaping::Underscores,
                false => Escaping::AllowUtf8,
            };
            match open_metrics {
                true => OutputFormat::OpenMetrics(escaping),
                false => OutputFormat::Text(escaping),
            }
        };
        let cases = [
            (None, format(false, true)),
            (Some(""), format(false, true)),
            (Some("*/*"), format(false, true)),
            (Some("text/html"), format(false, true)),
            (Some("text/plain"), format(false, true)),
            (Some("text/plain; version=0.0.4"), format(false, true)),
            (
                Some("text/plain;version=1.0.0;escaping=allow-utf-8"),
                format(false, false),
            ),
            (
                Some("text/plain;version=1.0.0;escaping=underscores"),
                format(false, true),
            ),
            (Some("application/openmetrics-text"), format(true, true)),
            (
                Some("application/openmetrics-text; version=1.0.0"),
                format(true, true),
            ),
            (
                Some("application/openmetrics-text; version=2.0.0"),
                format(false, true),
            ),
            (
                Some("application/openmetrics-text;q=0, text/plain;q=0.1"),
                format(false, true),
            ),
            (
                Some("text/plain;q=0.5, application/openmetrics-text;q=0.4"),
                format(false, true),
            ),
            (
                Some("Application/OpenMetrics-Text; Q=0.9, text/plain;q=0.5"),
                format(true, true),
            ),
            (Some(PROMETHEUS), format(true, false)),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(ACCEPT, HeaderValue::from_static(value));
            }
            let negotiated = negotiate(&headers);
            assert_eq!(negotiated.output_format(), expected, "{value:?}");
        }
    }

    #[test]
    fn protobuf_is_chosen_only_with_all_its_parameters() {
        const DELIMITED: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let cases = [
            (DELIMITED.to_owned(), true, true),
            (format!("{DELIMITED};q=0.7,text/plain;version=0.0.4;q=0.3"), true, true),
            (format!("{DELIMITED};q=0.2,text/plain;version=0.0.4;q=0.3"), false, true),
            (format!("{DELIMITED};escaping=allow-utf-8;q=0.7,*/*;q=0.2"), true, false),
            (format!("{DELIMITED};q=0"), false, true),
            (DELIMITED.replace("delimited", "text"), false, true),
            (DELIMITED.replace("io.prometheus", "com.example"), false, true),
            ("application/vnd.google.protobuf".to_owned(), false, true),
            (
                "Application/vnd.google.protobuf; encoding=\"delimited\"; proto=\"io.prometheus.client.MetricFamily\"".to_owned(),
                true,
                true,
            ),
        ];
        for (value, protobuf, underscores) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(&value).expect("a header"));
            let negotiated = negotiate(&headers);
            let is_protobuf = negotiated.media == Media::Protobuf;
            assert_eq!(is_protobuf, protobuf, "{value:?}");
            let is_underscores = negotiated.escaping == Escaping::Underscores;
            assert_eq!(is_underscores, underscores, "{value:?}");
        }
    }

    #[test]
    fn each_scheme_is_answered_by_its_name() {
        const DELIMITED: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for media in ["text/plain", "application/openmetrics-text", DELIMITED] {
            for (word, scheme) in [
                ("allow-utf-8", "allow-utf-8"),
                ("dots", "dots"),
                ("values", "values"),
                ("\"dots\"", "dots"),
                ("underscores", "underscores"),
                ("camels", "underscores"),
            ] {
                let mut headers = HeaderMap::new();
                let accept = format!("{media};escaping={word}");
                headers.insert(ACCEPT, HeaderValue::from_str(&accept).expect("a header"));
                let negotiated = negotiate(&headers);
                assert_eq!(negotiated.escaping.as_str(), scheme, "{accept}");
                let content_type = negotiated.content_type();
                let content_type = content_type.to_str().expect("text");
                let media_type = media.split(';').next().expect("a type");
                assert!(content_type.starts_with(media_type), "{content_type}");
                let says = content_type.ends_with(&format!("; escaping={scheme}"));
                let need_not = media == "text/plain" && scheme == "underscores";
                assert!(says || need_not, "{content_type}");
            }
        }
    }
}
