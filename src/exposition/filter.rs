//! Selects families of a text.

use std::collections::HashSet;

use super::family::OPEN_METRICS_LINE;
use super::{InputFormat, Kind, Labels, ParsedLine, Parser};

/// The lines of `text` that belong to the named families: metadata and samples,
/// with the components of histograms and summaries. Lines that cannot be parsed
/// are left out, since their family is not known.
pub fn keep_families(text: &str, names: &[String]) -> String {
    let names: HashSet<&str> = names.iter().map(String::as_str).collect();
    let mut out = String::new();
    let mut labels = Labels::new();
    // Histograms and summaries, whose samples have longer names.
    let mut composed: HashSet<&str> = HashSet::new();
    let mut last = "";
    for line in text.split_inclusive('\n') {
        let content = line.strip_suffix('\n').unwrap_or(line);
        let entry = Parser::new(content, InputFormat::Text).next(&mut labels);
        let wanted = match entry {
            Ok(Some(ParsedLine::Help { name, .. })) => names.contains(name),
            Ok(Some(ParsedLine::Type { name, kind })) => {
                if matches!(kind, Kind::Histogram | Kind::Summary) {
                    composed.insert(name);
                }
                last = name;
                names.contains(name)
            }
            Ok(None) if content.starts_with(OPEN_METRICS_LINE) => {
                if content[OPEN_METRICS_LINE.len()..].starts_with(Kind::GaugeHistogram.as_str()) {
                    composed.insert(last);
                }
                names.contains(last)
            }
            Ok(Some(ParsedLine::Sample(sample))) => {
                let base = ["_bucket", "_count", "_sum", "_gcount", "_gsum"]
                    .iter()
                    .find_map(|suffix| sample.name.strip_suffix(suffix))
                    .filter(|base| composed.contains(base));
                names.contains(base.unwrap_or(sample.name))
            }
            _ => false,
        };
        if wanted {
            out.push_str(line);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_kept_with_metadata_and_components() {
        let text = "# HELP a h\n# TYPE a gauge\na{x=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\n\
                    h_count 1\n# TYPE other_sum gauge\nother_sum 3\n# comment\nbroken{ 1\nb 2\n";
        let keep = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            keep_families(text, &names)
        };
        assert_eq!(keep(&["a"]), "# HELP a h\n# TYPE a gauge\na{x=\"1\"} 1\n");
        assert_eq!(
            keep(&["h", "b"]),
            "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\nb 2\n"
        );
        assert_eq!(
            keep(&["other_sum"]),
            "# TYPE other_sum gauge\nother_sum 3\n"
        );
        assert_eq!(keep(&["other", "h_sum"]), "");
    }
}
