//! `Accept`: in which form a client reads the metrics.

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

use crate::exposition::{Escaping, OutputFormat};

/// What a client reads, and how names are shown in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    pub media: Media,
    pub escaping: Escaping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    Text,
    /// Text of which a part is verbatim: nobody knows what is in that.
    Verbatim,
    OpenMetrics,
    Protobuf,
}

/// Text format 0.0.4, as Prometheus wants it named.
pub const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

impl Negotiated {
    /// What every client reads.
    const OLD_TEXT: Negotiated = Negotiated {
        media: Media::Text,
        escaping: Escaping::Underscores,
    };

    /// The same for output that is verbatim text in part, and so can only be
    /// text. Names of families are shown as the client reads them all the same.
    pub fn with_verbatim(self) -> Self {
        Negotiated {
            media: Media::Verbatim,
            ..self
        }
    }

    pub fn form(self) -> OutputFormat {
        match self.media {
            Media::Text | Media::Verbatim => OutputFormat::Text(self.escaping),
            Media::OpenMetrics => OutputFormat::OpenMetrics(self.escaping),
            Media::Protobuf => OutputFormat::Canonical,
        }
    }

    pub fn content_type(self) -> HeaderValue {
        const PROTOBUF: &str = "application/vnd.google.protobuf; \
            proto=io.prometheus.client.MetricFamily; encoding=delimited";
        let kind = match self.media {
            Media::Verbatim => return TEXT_FORMAT,
            // Who names no scheme may know of none.
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

/// Whether a client that names what it reads also reads text.
pub fn accepts_text(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let mut offers = values.flat_map(|value| value.split(',')).filter_map(offer);
    offers.any(|(quality, offer)| quality > 0.0 && offer.media == Media::Text)
}

/// Chooses among the forms that normal text can be shown in: the one with the
/// highest quality, of several the one named first, and text where none is
/// acceptable, since any answer is more use than none.
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
    best.map_or(Negotiated::OLD_TEXT, |(_, offer)| offer)
}

/// The form that a media range asks for, if it is one of ours, and its quality.
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
            // What cannot be read is taken as unwelcome.
            "q" => quality = value.parse().unwrap_or(0.0),
            "version" => version = Some(value),
            "proto" => proto = Some(value),
            "encoding" => encoding = Some(value),
            // A scheme that is not known is ignored, as the reference does.
            "escaping" => escaping = Escaping::from_keyword(value).unwrap_or_default(),
            _ => {}
        }
    }
    // Messages in other forms of the same type are for people.
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
    fn the_best_form_we_have_is_chosen() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let form = |open_metrics, underscores| {
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
            (None, form(false, true)),
            (Some(""), form(false, true)),
            (Some("*/*"), form(false, true)),
            (Some("text/html"), form(false, true)),
            (Some("text/plain"), form(false, true)),
            (Some("text/plain; version=0.0.4"), form(false, true)),
            (
                Some("text/plain;version=1.0.0;escaping=allow-utf-8"),
                form(false, false),
            ),
            (
                Some("text/plain;version=1.0.0;escaping=underscores"),
                form(false, true),
            ),
            (Some("application/openmetrics-text"), form(true, true)),
            (
                Some("application/openmetrics-text; version=1.0.0"),
                form(true, true),
            ),
            (
                Some("application/openmetrics-text; version=2.0.0"),
                form(false, true),
            ),
            (
                Some("application/openmetrics-text;q=0, text/plain;q=0.1"),
                form(false, true),
            ),
            (
                Some("text/plain;q=0.5, application/openmetrics-text;q=0.4"),
                form(false, true),
            ),
            (
                Some("Application/OpenMetrics-Text; Q=0.9, text/plain;q=0.5"),
                form(true, true),
            ),
            (Some(PROMETHEUS), form(true, false)),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(ACCEPT, HeaderValue::from_static(value));
            }
            let negotiated = negotiate(&headers);
            assert_eq!(negotiated.form(), expected, "{value:?}");
        }
    }

    #[test]
    fn protobuf_is_shown_to_those_who_prefer_it_in_full() {
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
