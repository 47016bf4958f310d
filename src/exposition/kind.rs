//! What a family is.

/// The kinds of both formats. The last three are OpenMetrics' own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// `untyped` in text, `unknown` in OpenMetrics; also what was not told.
    Untyped,
    Info,
    StateSet,
    GaugeHistogram,
}

impl Kind {
    /// The word for it in text, and for OpenMetrics' own kinds the word there.
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

    /// The word with its article, for messages: `a gauge`, `untyped`.
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

    /// The word for it in OpenMetrics.
    pub fn in_open_metrics(self) -> &'static str {
        match self {
            Kind::Untyped => "unknown",
            kind => kind.as_str(),
        }
    }

    /// The nearest kind that a reader of text 0.0.4 takes: one unknown word
    /// would lose it the whole scrape.
    pub fn in_text(self) -> Kind {
        match self {
            Kind::Info | Kind::StateSet => Kind::Gauge,
            Kind::GaugeHistogram => Kind::Untyped,
            kind => kind,
        }
    }

    /// By a word of text 0.0.4, in lower case as its readers want it.
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

    /// By a word of OpenMetrics 1.0.
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
    fn every_kind_is_read_back_from_its_word() {
        for kind in ALL {
            assert_eq!(Kind::of_open_metrics(kind.in_open_metrics()), Some(kind));
            let text = kind.in_text();
            assert_eq!(Kind::of_text(text.as_str()), Some(text));
        }
    }

    #[test]
    fn each_format_refuses_the_words_of_the_other() {
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
