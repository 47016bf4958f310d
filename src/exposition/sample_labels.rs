//! Labels for every sample of a text, whether the text is parsed or passed through.

use bytes::Bytes;
use memchr::memmem::Finder;
use memchr::{memchr, memchr_iter};

use super::added::{AddedLabel, LabelConflict, merge_added};
use super::canonical::write_sample_start;
use super::label_text::LabelText;
use super::parse::{self, InputFormat, Labels, bare_name, offset};
use super::text::Text;

/// Labels for every sample of a producer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SampleLabels {
    labels: LabelText,
    /// Whether a label of the sample itself wins over one of the same name.
    honor: bool,
}

impl SampleLabels {
    /// The labels, and whether the samples' own labels of the same names are kept (`honor`) or
    /// get the prefix `exported_`, as in Prometheus.
    pub fn new(labels: LabelText, honor: bool) -> Self {
        SampleLabels { labels, honor }
    }

    /// The labels.
    pub fn labels(&self) -> &LabelText {
        &self.labels
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The labels, to be added while a text is parsed.
    pub fn added(&self) -> impl Iterator<Item = AddedLabel<'_>> {
        let conflict = match self.honor {
            true => LabelConflict::Keep,
            false => LabelConflict::Rename,
        };
        self.labels.iter().map(move |label| AddedLabel {
            name: label.name,
            value: label.value,
            conflict,
        })
    }

    /// The text with the labels in each sample. Values, timestamps and all other lines stay as
    /// they are. Only what is needed is read: lines that have no label of the same name are not
    /// parsed.
    pub fn add_to(&self, text: &Text) -> Text {
        if self.is_empty() {
            return text.clone();
        }
        let mut lines = self.lines_with(text.as_str());
        lines.shrink_to_fit();
        Text::of_lines(Bytes::from(lines))
    }

    /// Like [`add_to`](Self::add_to), for a text whose last line may lack its line feed, which
    /// the result has.
    pub fn add_to_lines(&self, text: &str) -> String {
        String::from_utf8(self.lines_with(text)).expect("pieces of text are joined")
    }

    fn lines_with(&self, text: &str) -> Vec<u8> {
        let added: Vec<AddedLabel<'_>> = self.added().collect();
        let mut writer = LineWriter {
            labels: self.labels.as_str(),
            added: &added,
            // If the text has no name of an added label, no labels are read.
            may_clash: added
                .iter()
                .any(|label| Finder::new(label.name).find(text.as_bytes()).is_some()),
            out: Vec::with_capacity(text.len() + text.len() / 2),
        };
        let mut read = Labels::new();
        let mut start = 0;
        for end in memchr_iter(b'\n', text.as_bytes()) {
            writer.line(&text[start..end], &mut read);
            start = end + 1;
        }
        if start < text.len() {
            writer.line(&text[start..], &mut read);
        }
        writer.out
    }
}

/// Writes lines with added labels.
struct LineWriter<'l> {
    /// The labels as they are written between braces.
    labels: &'l str,
    added: &'l [AddedLabel<'l>],
    may_clash: bool,
    out: Vec<u8>,
}

impl LineWriter<'_> {
    fn line<'t>(&mut self, line: &'t str, read: &mut Labels<'t>) {
        let is_done = match bare_name(line) {
            Some(name) if !self.may_clash || !self.has_name(line) => self.insert(line, name),
            _ => self.rewrite(line, read),
        };
        if !is_done {
            self.out.extend_from_slice(line.as_bytes());
        }
        self.out.push(b'\n');
    }

    /// Whether a line can have a label of the name of an added one.
    fn has_name(&self, line: &str) -> bool {
        self.added.iter().any(|label| line.contains(label.name))
    }

    /// Writes the labels after the metric's name. Returns false if the line is no sample.
    fn insert(&mut self, line: &str, name: &str) -> bool {
        let rest = &line[name.len()..];
        let (rest, end) = match rest.as_bytes() {
            [b'{', rest @ ..] => match rest.iter().find(|byte| !is_blank(**byte)) {
                Some(b'}') => {
                    let brace = memchr(b'}', rest).unwrap_or_default();
                    (&rest[brace..], &b""[..])
                }
                Some(_) => (rest, &b","[..]),
                None => return false,
            },
            [b' ' | b'\t', ..] => {
                let rest = rest.as_bytes();
                // A blank before the labels, which is rare.
                if rest.iter().find(|byte| !is_blank(**byte)) == Some(&b'{') {
                    return self.rewrite(line, &mut Labels::new());
                }
                (rest, &b"}"[..])
            }
            _ => return false,
        };
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'{');
        self.out.extend_from_slice(self.labels.as_bytes());
        self.out.extend_from_slice(end);
        self.out.extend_from_slice(rest);
        true
    }

    /// Writes a sample that must be read. Returns false if the line is no sample.
    fn rewrite<'t>(&mut self, line: &'t str, read: &mut Labels<'t>) -> bool {
        if line.trim_start_matches([' ', '\t']).starts_with('#') {
            return false;
        }
        read.clear();
        let Some(sample) = parse::sample(line, InputFormat::Text, read) else {
            return false;
        };
        let mut shown = Vec::with_capacity(read.len() + self.added.len());
        merge_added(&mut shown, read, self.added);
        let mut start = String::new();
        let labels = shown.iter().map(|(name, value)| (&**name, *value));
        write_sample_start(&mut start, sample.name, labels);
        self.out.extend_from_slice(start.as_bytes());
        self.out.push(b' ');
        let value = offset(line, sample.value_text);
        self.out.extend_from_slice(&line.as_bytes()[value..]);
        true
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;
    use crate::exposition::{CanonicalOptions, TextLimits, TimestampPolicy, canonicalize};

    fn labels(pairs: &[(&str, &str)], honor: bool) -> SampleLabels {
        let labels = LabelText::from_plain(pairs.iter().copied()).unwrap();
        SampleLabels::new(labels, honor)
    }

    #[test]
    fn each_sample_gets_the_labels_and_other_lines_stay() {
        let added = labels(&[("instance", "h:1"), ("env", "a\"b")], false);
        let env = r#"env="a\"b""#;
        let both = format!("{env},instance=\"h:1\"");
        for (line, expected) in [
            ("m 1", format!("m{{{both}}} 1")),
            ("m\t1 123", format!("m{{{both}}}\t1 123")),
            ("m{} 1", format!("m{{{both}}} 1")),
            ("m{ } 1", format!("m{{{both}}} 1")),
            ("m{a=\"}\"} 1.50", format!("m{{{both},a=\"}}\"}} 1.50")),
            ("m{a=\"b\",} 1", format!("m{{{both},a=\"b\",}} 1")),
            ("m {a=\"b\"} 1", format!("m{{a=\"b\",{both}}} 1")),
            ("m{\"a b\"=\"c\"} 1", format!("m{{{both},\"a b\"=\"c\"}} 1")),
            (
                "{\"m.x\",a=\"b\"} 1",
                format!("{{\"m.x\",a=\"b\",{both}}} 1"),
            ),
            ("{\"m.x\"} 1", format!("{{\"m.x\",{both}}} 1")),
            (" m 1", format!("m{{{both}}} 1")),
            (
                "m{env=\"x\",z=\"instance\"} 1e3 7",
                format!("m{{{env},exported_env=\"x\",instance=\"h:1\",z=\"instance\"}} 1e3 7"),
            ),
            (
                "m{exported_env=\"y\",env=\"x\"} 1",
                format!(
                    "m{{{env},exported_env=\"y\",exported_exported_env=\"x\",instance=\"h:1\"}} 1"
                ),
            ),
            ("environment 1", format!("environment{{{both}}} 1")),
            ("# HELP m instance", "# HELP m instance".to_owned()),
            ("#m 1", "#m 1".to_owned()),
            ("", String::new()),
            ("  ", "  ".to_owned()),
            ("m", "m".to_owned()),
            ("m{", "m{".to_owned()),
            ("<html env>", "<html env>".to_owned()),
            ("m\u{e9} 1", "m\u{e9} 1".to_owned()),
        ] {
            let text = added.add_to(&Text::new(line));
            let end = if line.is_empty() { "" } else { "\n" };
            assert_eq!(text.as_str(), expected + end, "{line}");
        }
    }

    #[test]
    fn labels_of_samples_can_win() {
        let added = labels(&[("a", "1"), ("b", "2")], true);
        let text = Text::new("m{b=\"x\"} 1\nn{c=\"x\"} 2\n");
        let expected = "m{a=\"1\",b=\"x\"} 1\nn{a=\"1\",b=\"2\",c=\"x\"} 2\n";
        assert_eq!(added.add_to(&text).as_str(), expected);
        assert_eq!(SampleLabels::default().add_to(&text), text);
    }

    #[test]
    fn a_text_that_is_parsed_gets_the_same_labels() {
        let text = Text::new(
            "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n\
             # HELP m help\nm{instance=\"own\",x=\"a\\\"}\"} 1 5\nm{x=\"\"} 2\n{\"u.v\",x=\"y\"} 3\n",
        );
        let hash = RandomState::new();
        let parse = |text: &Text, added: &[AddedLabel<'_>]| {
            let options = CanonicalOptions {
                limits: TextLimits::default(),
                added,
                timestamps: TimestampPolicy::Keep,
                hash: &hash,
            };
            let families = canonicalize(text.as_str(), &options).unwrap();
            let samples = families.into_iter().map(|family| family.samples);
            samples.collect::<Vec<_>>()
        };
        for honor in [false, true] {
            let labels = labels(&[("instance", "h:1"), ("job", "\\x\n")], honor);
            let added: Vec<AddedLabel<'_>> = labels.added().collect();
            assert_eq!(parse(&labels.add_to(&text), &[]), parse(&text, &added));
        }
    }
}
