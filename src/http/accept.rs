//! `Accept`: in which form a client reads the metrics.

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

use crate::exposition::Form;

/// A form, and the type that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub form: Form,
    /// Whether it is not text at all but messages; of the form, only what it
    /// says of names holds then.
    pub protobuf: bool,
    pub content_type: HeaderValue,
}

/// Text format 0.0.4, as Prometheus wants it named.
pub const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const TEXT_UTF8: HeaderValue =
    HeaderValue::from_static("text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8");
const OPEN_METRICS: HeaderValue = HeaderValue::from_static(
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
);
const OPEN_METRICS_UTF8: HeaderValue = HeaderValue::from_static(
    "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
);

const PROTOBUF: HeaderValue = HeaderValue::from_static(
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores",
);
const PROTOBUF_UTF8: HeaderValue = HeaderValue::from_static(
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8",
);

/// What is in there nobody knows, so it is what it was sent as.
pub const AS_SENT: Negotiated = Negotiated {
    form: Form::NORMAL,
    protobuf: false,
    content_type: TEXT_FORMAT,
};

/// Chooses among the forms that normal text can be shown in: the one with the
/// highest quality, of several the one named first, and text where none is
/// acceptable, since any answer is more use than none.
pub fn negotiate(headers: &HeaderMap) -> Negotiated {
    let mut best: Option<(f32, Form, bool)> = None;
    for value in headers.get_all(ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',') {
            let Some((quality, form, protobuf)) = offer(range) else {
                continue;
            };
            if quality > 0.0 && best.is_none_or(|(highest, ..)| quality > highest) {
                best = Some((quality, form, protobuf));
            }
        }
    }
    let (form, protobuf) = best.map_or((OLD_TEXT, false), |(_, form, protobuf)| (form, protobuf));
    let content_type = match (protobuf, form.open_metrics, form.underscores) {
        (true, _, true) => PROTOBUF,
        (true, _, false) => PROTOBUF_UTF8,
        (false, false, true) => TEXT_FORMAT,
        (false, false, false) => TEXT_UTF8,
        (false, true, true) => OPEN_METRICS,
        (false, true, false) => OPEN_METRICS_UTF8,
    };
    Negotiated {
        form,
        protobuf,
        content_type,
    }
}

/// What everybody reads: names within the old characters, in text.
const OLD_TEXT: Form = Form::UNDERSCORES;

/// The form that a media range asks for, if it is one of ours, its quality,
/// and whether it is messages.
fn offer(range: &str) -> Option<(f32, Form, bool)> {
    let mut parameters = range.split(';').map(str::trim);
    let media_type = parameters.next()?.to_ascii_lowercase();
    let mut quality = 1.0;
    let mut version = None;
    let mut any_name = false;
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
            "escaping" => any_name = value == "allow-utf-8",
            _ => {}
        }
    }
    // Messages in other forms of the same type are for people.
    let delimited =
        (proto, encoding) == (Some("io.prometheus.client.MetricFamily"), Some("delimited"));
    let (open_metrics, protobuf) = match (media_type.as_str(), version) {
        ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => (true, false),
        ("text/plain", None | Some("0.0.4" | "1.0.0")) | ("text/*" | "*/*", _) => (false, false),
        ("application/vnd.google.protobuf", _) if delimited => (false, true),
        _ => return None,
    };
    let form = Form {
        open_metrics,
        underscores: !any_name,
    };
    Some((quality, form, protobuf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_form_we_have_is_chosen() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let form = |open_metrics, underscores| Form {
            open_metrics,
            underscores,
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
            assert_eq!(negotiated.form, expected, "{value:?}");
            assert!(!negotiated.protobuf, "{value:?}");
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
            assert_eq!(negotiated.protobuf, protobuf, "{value:?}");
            assert_eq!(negotiated.form.underscores, underscores, "{value:?}");
        }
    }
}
