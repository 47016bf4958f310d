//! The families that a source exposes, read for one page.

use bytes::Bytes;
use maud::{Markup, html};

use super::show::{count, sent};
use crate::exposition::{
    Families, InputFormat, Kind, Labels, Text, TextLimits, unescape, unescape_help,
};
use crate::store::{SectionId, Store};
use crate::telemetry::clip_to;

/// The limit of text that is read for a page, in bytes.
const MAX_READ: usize = 1 << 20;

/// The limit of families on a page.
const MAX_FAMILIES: usize = 200;

/// The limits of series on a page: of one family, and of all.
const MAX_SERIES_OF_FAMILY: usize = 50;
const MAX_SERIES: usize = 500;

/// The limit of raw text on a page, in bytes.
const MAX_RAW: usize = 16 << 10;

/// The longest series and the longest help that are shown, in bytes.
const MAX_LINE: usize = 300;

/// A family with some of its series.
#[derive(Debug)]
pub struct ShownFamily {
    name: String,
    kind: Kind,
    help: String,
    samples: usize,
    /// Series as written, with their values.
    series: Vec<(String, String)>,
}

/// The metrics of a source, as far as a page shows them.
#[derive(Debug, Default)]
pub struct Exposed {
    families: Vec<ShownFamily>,
    /// The last of these families, if more follow.
    next: Option<String>,
    /// Why the text cannot be read as families.
    problem: Option<String>,
    /// The start of the text.
    raw: String,
    /// Whether more text follows than was read.
    is_cut: bool,
}

impl Exposed {
    /// Reads the metrics of a source; in merged mode, the families after `after`.
    pub fn read(store: &Store, id: &SectionId, after: Option<&str>) -> Self {
        let members = store.families_of(id, after, MAX_READ);
        if members.is_empty() && after.is_none() {
            return Exposed::of_text(&store.text(id));
        }
        let mut exposed = Exposed::default();
        let mut left = MAX_SERIES;
        let is_more = members.len() > MAX_FAMILIES;
        let shown = &members[..members.len().min(MAX_FAMILIES)];
        for member in shown {
            let text = [&member.head[..], &member.samples[..]].concat();
            let text = String::from_utf8_lossy(&text);
            if let Ok(families) = Families::parse(&text, InputFormat::Text, &TextLimits::default())
            {
                exposed.add(&families, &mut left);
            }
            if exposed.raw.len() < MAX_RAW {
                exposed.raw.push_str(&text);
            }
        }
        // The store gives about as much as was asked for.
        let read: usize = members.iter().map(|it| it.samples.len()).sum();
        exposed.is_cut = is_more || read >= MAX_READ;
        let last = shown.last().filter(|_| exposed.is_cut);
        exposed.next = last.map(|family| family.name.to_string());
        exposed.cut_raw();
        exposed
    }

    /// Reads a verbatim text.
    fn of_text(text: &Text) -> Self {
        let whole = text.as_str();
        let text = begin_of(whole, MAX_READ);
        let mut exposed = Exposed {
            raw: begin_of(text, MAX_RAW).to_owned(),
            is_cut: text.len() < whole.len(),
            ..Exposed::default()
        };
        match Families::parse(text, InputFormat::Text, &TextLimits::default()) {
            Ok(families) => {
                exposed.add(&families, &mut { MAX_SERIES });
            }
            Err(problem) => exposed.problem = Some(clip_to(MAX_LINE, &problem.to_string(), "…")),
        }
        exposed
    }

    fn add(&mut self, families: &Families<'_>, left: &mut usize) {
        for family in families.iter() {
            if self.families.len() >= MAX_FAMILIES {
                self.is_cut = true;
                return;
            }
            let mut series = Vec::new();
            let (mut samples, mut labels) = (family.samples(), Labels::new());
            while *left > 0
                && series.len() < MAX_SERIES_OF_FAMILY
                && let Some(sample) = samples.next(&mut labels)
            {
                let value = sample.raw.rfind(sample.value_text).unwrap_or_default();
                let name = sample.raw[..value].trim_end();
                series.push((
                    clip_to(MAX_LINE, name, "…"),
                    clip_to(MAX_LINE, &sample.raw[value..], "…"),
                ));
                *left -= 1;
            }
            let help = family.help().unwrap_or_default();
            self.families.push(ShownFamily {
                name: clip_to(MAX_LINE, &unescape(family.name()), "…"),
                kind: family.kind(),
                help: clip_to(MAX_LINE, &unescape_help(help, InputFormat::Text), "…"),
                samples: family.sample_count(),
                series,
            });
        }
    }

    fn cut_raw(&mut self) {
        let length = begin_of(&self.raw, MAX_RAW).len();
        self.is_cut |= length < self.raw.len();
        self.raw.truncate(length);
    }

    /// Shows the families and the text. `raw_link` leads to the whole text; `next_link` makes a
    /// link to the families after one.
    pub fn show(&self, raw_link: &str, next_link: impl Fn(&str) -> String) -> Markup {
        let samples: usize = self.families.iter().map(|family| family.samples).sum();
        html! {
            section aria-labelledby="families" {
                h2 #families { "Metrics" }
                @if let Some(problem) = &self.problem {
                    p.problem { "The text cannot be shown as families: " (problem) }
                } @else if self.families.is_empty() {
                    p.empty { "It exposes nothing." }
                } @else {
                    p.summary {
                        (count(self.families.len() as u64)) " families, "
                        (count(samples as u64)) " samples"
                        @if self.is_cut { " of the part that is shown here" }
                    }
                    div.families {
                        @for family in &self.families { (family.show()) }
                    }
                    @if let Some(next) = &self.next {
                        nav.pager aria-label="Pages of families" { a href=(next_link(next)) rel="next" { "Next families" } }
                    }
                }
                @if !self.raw.is_empty() {
                    details.raw {
                        summary { "Text" }
                        pre tabindex="0" { (sent_lines(&self.raw)) }
                    }
                    p { a href=(raw_link) { "All of it as text" } }
                }
            }
        }
    }
}

impl ShownFamily {
    fn show(&self) -> Markup {
        let hidden = self.samples - self.series.len();
        html! {
            details {
                summary {
                    span.name { (self.name) }
                    span.kind { (self.kind.as_str()) }
                    span.samples { (count(self.samples as u64)) }
                    span.help { (self.help) }
                }
                table.series {
                    tbody {
                        @for (name, value) in &self.series {
                            tr { td { (name) } td.value { (value) } }
                        }
                    }
                }
                @if hidden > 0 { p.more { "and " (count(hidden as u64)) " more samples" } }
            }
        }
    }
}

/// Lines of a sender, whose hidden characters are shown as escapes.
fn sent_lines(text: &str) -> Markup {
    html! {
        @for line in text.lines() { (sent(line)) "\n" }
    }
}

/// The start of a text up to the end of a line, at most `limit` bytes. A line that is longer
/// than that is cut.
fn begin_of(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let is_boundary = |at: &usize| text.is_char_boundary(*at);
    let begin = (0..=limit).rev().find(is_boundary).unwrap_or_default();
    let end = text[..begin].rfind('\n').map_or(begin, |at| at + 1);
    &text[..end]
}

/// The first `limit` bytes of a body, as text.
pub fn begin_of_body(body: &Bytes, limit: usize) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(limit)]).into_owned();
    match body.len() > limit {
        true => text + " …",
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_up_to_the_limits() {
        let mut text = String::from("# HELP m Help <b>.\n# TYPE m gauge\n");
        for number in 0..2 * MAX_SERIES_OF_FAMILY {
            text.push_str(&format!("m{{n=\"{number} 1\"}} 1 5\n"));
        }
        text.push_str("plain 2\n");
        let exposed = Exposed::of_text(&Text::new(&text));
        let [m, plain] = exposed.families.as_slice() else {
            panic!("{exposed:?}");
        };
        assert_eq!((m.samples, m.series.len()), (100, 50));
        let first = ("m{n=\"0 1\"}".to_owned(), "1 5".to_owned());
        assert_eq!(m.series[0], first);
        assert_eq!(plain.kind, Kind::Untyped);
        let shown = exposed.show("/raw", |_| String::new()).into_string();
        assert!(shown.contains("Help &lt;b&gt;.") && shown.contains("and 50 more samples"));
        let many: String = (0..MAX_FAMILIES + 5)
            .map(|it| format!("m{it} 1\n"))
            .collect();
        let exposed = Exposed::of_text(&Text::new(&many));
        assert_eq!(exposed.families.len(), MAX_FAMILIES);
        assert!(exposed.is_cut);
    }

    #[test]
    fn a_text_that_cannot_be_read_is_shown_with_the_reason() {
        let exposed = Exposed::of_text(&Text::new("fine 1\nbad{ 2\n"));
        assert!(exposed.problem.as_ref().unwrap().starts_with("line 2"));
        let shown = exposed.show("/raw", |_| String::new()).into_string();
        assert!(shown.contains("bad{ 2\n"));
    }

    #[test]
    fn long_texts_are_cut_at_the_end_of_a_line() {
        assert_eq!(begin_of("a\nbb\ncc", 4), "a\n");
        assert_eq!(begin_of("a\nbb\ncc", 5), "a\nbb\n");
        assert_eq!(begin_of("aé", 2), "a");
        assert_eq!(begin_of("abc", 3), "abc");
    }
}
