//! Kinds of families.

use serde::{Deserialize, Serialize};

/// The kinds of text 0.0.4 and of OpenMetrics, which alone has the last three.
///
/// Storage keeps a kind as its number in this order, so new ones come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A value that only rises, except when it is reset.
    Counter,
    /// A value that rises and falls.
    Gauge,
    /// Cumulative counts of observations by upper bound, their sum and number.
    Histogram,
    /// Quantiles of observations, their sum and number.
    Summary,
    /// `untyped` in text, `unknown` in OpenMetrics; also a kind that is not
    /// given.
    Untyped,
    /// Facts as labels; the value is always 1.
    Info,
    /// A series for each state, with value 0 or 1.
    StateSet,
    /// A histogram whose counts may fall.
    GaugeHistogram,
}

impl Kind {
    /// The keyword in text 0.0.4, or in OpenMetrics for kinds that only it has.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
            Kind::Untyped => "untyped",
            Kind::Info => "info",
            Kind::StateSet => "stateset",
            Kind::GaugeHistogram => "gaugehistogram",
        }
    }

    /// The keyword with its article, for messages: `a gauge`, `untyped`.
    pub fn with_article(self) -> &'static str {
        match self {
            Kind::Counter => "a counter",
            Kind::Gauge => "a gauge",
            Kind::Histogram => "a histogram",
            Kind::Summary => "a summary",
            Kind::Untyped => "untyped",
            Kind::Info => "an info",
            Kind::StateSet => "a stateset",
            Kind::GaugeHistogram => "a gaugehistogram",
        }
    }

    /// The keyword in OpenMetrics.
    pub fn in_open_metrics(self) -> &'static str {
        match self {
            Kind::Untyped => "unknown",
            kind => kind.as_str(),
        }
    }

    /// The nearest kind of text 0.0.4. A reader would refuse the whole scrape
    /// because of one unknown keyword.
    pub fn in_text(self) -> Kind {
        match self {
            Kind::Info | Kind::StateSet => Kind::Gauge,
            Kind::GaugeHistogram => Kind::Untyped,
            kind => kind,
        }
    }

    /// The kind with that keyword in text 0.0.4. Case matters.
    pub(super) fn of_text(word: &str) -> Option<Kind> {
        Some(match word {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            "summary" => Kind::Summary,
            "untyped" => Kind::Untyped,
            _ => return None,
        })
    }

    /// The kind with that keyword in OpenMetrics 1.0. Case matters.
    pub(super) fn of_open_metrics(word: &str) -> Option<Kind> {
        Some(match word {
            "unknown" => Kind::Untyped,
            "untyped" => return None,
            "info" => Kind::Info,
            "stateset" => Kind::StateSet,
            "gaugehistogram" => Kind::GaugeHistogram,
            word => return Kind::of_text(word),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Kind; 8] = [
        Kind::Counter,
        Kind::Gauge,
        Kind::Histogram,
        Kind::Summary,
        Kind::Untyped,
        Kind::Info,
        Kind::StateSet,
        Kind::GaugeHistogram,
    ];

    #[test]
    fn kinds_round_trip_through_their_keywords() {
        for kind in ALL {
            assert_eq!(Kind::of_open_metrics(kind.in_open_metrics()), Some(kind));
            let text = kind.in_text();
            assert_eq!(Kind::of_text(text.as_str()), Some(text));
        }
    }

    #[test]
    fn formats_reject_the_keywords_of_others() {
        for word in [
            "unknown",
            "info",
            "stateset",
            "gaugehistogram",
            "Counter",
            "",
        ] {
            assert_eq!(Kind::of_text(word), None, "{word}");
        }
        for word in ["untyped", "Counter", ""] {
            assert_eq!(Kind::of_open_metrics(word), None, "{word}");
        }
    }
}
