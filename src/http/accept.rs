//! `Accept`: in which form a client reads the metrics.

use hyper::header::{ACCEPT, HeaderMap, HeaderValue};

use crate::exposition::Form;

/// A form, and the type that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub form: Form,
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

/// Chooses among the forms that normal text can be shown in: the one with the
/// highest quality, of several the one named first, and text where none is
/// acceptable, since any answer is more use than none.
pub fn negotiate(headers: &HeaderMap) -> Negotiated {
    let mut best: Option<(f32, Form)> = None;
    for value in headers.get_all(ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',') {
            let Some((quality, form)) = offer(range) else {
                continue;
            };
            if quality > 0.0 && best.is_none_or(|(highest, _)| quality > highest) {
                best = Some((quality, form));
            }
        }
    }
    let form = best.map_or(OLD_TEXT, |(_, form)| form);
    let content_type = match (form.open_metrics, form.underscores) {
        (false, true) => TEXT_FORMAT,
        (false, false) => TEXT_UTF8,
        (true, true) => OPEN_METRICS,
        (true, false) => OPEN_METRICS_UTF8,
    };
    Negotiated { form, content_type }
}

/// What everybody reads: names within the old characters, in text.
const OLD_TEXT: Form = Form {
    open_metrics: false,
    underscores: true,
};

/// The form that a media range asks for, if it is one of ours, and its quality.
fn offer(range: &str) -> Option<(f32, Form)> {
    let mut parameters = range.split(';').map(str::trim);
    let media_type = parameters.next()?.to_ascii_lowercase();
    let mut quality = 1.0;
    let mut version = None;
    let mut any_name = false;
    for parameter in parameters {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            // What cannot be read is taken as unwelcome.
            "q" => quality = value.parse().unwrap_or(0.0),
            "version" => version = Some(value),
            "escaping" => any_name = value == "allow-utf-8",
            _ => {}
        }
    }
    let open_metrics = match (media_type.as_str(), version) {
        ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => true,
        ("text/plain", None | Some("0.0.4" | "1.0.0")) | ("text/*" | "*/*", _) => false,
        _ => return None,
    };
    let form = Form {
        open_metrics,
        underscores: !any_name,
    };
    Some((quality, form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_form_we_have_is_chosen() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        const PROTOBUF_FIRST: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;version=0.0.4;q=0.3";
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
            (Some(PROTOBUF_FIRST), form(false, true)),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(negotiate(&headers).form, expected, "{value:?}");
        }
    }
}
