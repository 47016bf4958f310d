//! How values are shown: times, sizes, counts, states, bars.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use maud::{Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::clock::Now;
use crate::ingest::Group;
use crate::store::{Producer, SectionId, SectionState};
use crate::telemetry::{clip_to, dates, escaped};

/// The limit of a name in a list, in bytes.
const MAX_NAME: usize = 120;

/// The limit of labels of a group in a list.
const MAX_LABELS: usize = 6;

/// The characters of a path segment or a value in a query that are escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A text as a path segment or a value in a query.
pub fn url_text(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// A count with its digits in groups of three.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A size in bytes with three digits at most.
pub fn bytes(number: usize) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (number as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A duration in its two largest units.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |one: u64, unit: &str, other: u64, small: &str| match other {
        0 => format!("{one} {unit}"),
        _ => format!("{one} {unit} {other} {small}"),
    };
    match seconds {
        0 => match time.as_micros() {
            0 => "0 s".to_owned(),
            micros @ 1..1000 => format!("{micros} µs"),
            micros => format!("{} ms", micros / 1000),
        },
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// A duration in its largest unit, for columns.
fn short_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// The time since something happened, with the exact time as its title.
pub fn age(at: Now, now: Now) -> Markup {
    let since = now.since(at);
    html! { (time(at.wall, &short_duration(since))) }
}

/// Like [`age`], with `ago` after it.
pub fn ago(at: Now, now: Now) -> Markup {
    html! { (age(at, now)) " ago" }
}

/// The time until something happens, with the exact time as its title.
pub fn until(at: SystemTime, now: Now) -> Markup {
    let left = at.duration_since(now.wall).unwrap_or_default();
    html! { (time(at, &short_duration(left))) }
}

/// A time as `shown`, with the exact time for programs and as its title.
pub fn time(at: SystemTime, shown: &str) -> Markup {
    let exact = dates::second(at);
    html! { time datetime=(exact) title=(exact) { (shown) } }
}

/// A text of a sender, whose hidden characters are shown as escapes.
pub fn sent(text: &str) -> Cow<'_, str> {
    escaped(text)
}

/// The word for a state, with its colour.
pub fn state(state: SectionState) -> Markup {
    let word = state.as_str();
    html! { span class={ "state " (word) } { (word) } }
}

/// The name of a source in a list: the text of an app or target, the labels of a group.
pub fn name(id: &SectionId) -> Markup {
    name_with(id, MAX_LABELS)
}

/// Like [`name`], with all labels.
pub fn whole_name(id: &SectionId) -> Markup {
    name_with(id, usize::MAX)
}

fn name_with(id: &SectionId, max_labels: usize) -> Markup {
    let group = match id.producer {
        Producer::Group => Group::from_key(&id.name),
        _ => None,
    };
    let Some(group) = group else {
        return html! { (clip_to(MAX_NAME, &id.name, "…")) };
    };
    let labels = group.labels();
    let more = labels.len().saturating_sub(max_labels);
    // The job comes first, as in the path of the push.
    let job = labels.iter().filter(|(name, _)| *name == "job");
    let others = labels.iter().filter(|(name, _)| *name != "job");
    html! {
        @for (label, value) in job.chain(others).take(max_labels) {
            (label_badge(label, value)) " "
        }
        @if more > 0 { span.more { "and " (more) " more" } }
    }
}

/// A label with its value.
pub fn label_badge(label: &str, value: &str) -> Markup {
    html! {
        span.label {
            span { (clip_to(MAX_NAME, label, "…")) } "=" (clip_to(MAX_NAME, value, "…"))
        }
    }
}

/// The title of a source's page, as plain text.
pub fn plain_name(id: &SectionId) -> String {
    clip_to(MAX_NAME, &id.name, "…")
}

/// The path of a source's page or of what is below it, without the prefix.
pub fn source_path(id: &SectionId, below: &str) -> String {
    let name = url_text(&id.name);
    format!("/apps/{name}{below}?kind={}", id.producer.as_str())
}

/// A bar that shows the used part of a limit. Its colour depends on that part.
pub fn bar(used: usize, limit: usize) -> Markup {
    let percent = percent(used, limit);
    let class = match percent {
        ..80 => "",
        80..95 => "high",
        _ => "full",
    };
    // If anything is used, the bar has at least a line.
    let width = percent.clamp(usize::from(used > 0), 100);
    html! {
        svg class={ "bar " (class) } viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true" {
            rect width=(width) height="1" {}
        }
    }
}

/// The used part of a limit in hundredths.
pub fn percent(used: usize, limit: usize) -> usize {
    match limit {
        0 => 0,
        limit => (used as f64 / limit as f64 * 100.0) as usize,
    }
}

/// Names and values, one below the other.
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), shown);
        }
        for (number, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (10 << 10, "10 KiB"),
            (1 << 20, "1.0 MiB"),
            (999 << 20, "999 MiB"),
            (1000 << 20, "1.0 GiB"),
            (usize::MAX, "16777216 TiB"),
        ] {
            assert_eq!(bytes(number), shown);
        }
        for (micros, shown) in [
            (0, "0 s"),
            (5, "5 µs"),
            (12_345, "12 ms"),
            (59_000_000, "59 s"),
            (60_000_000, "1 min"),
            (61_000_000, "1 min 1 s"),
            (7_380_000_000, "2 h 3 min"),
            (90_000_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), shown);
        }
    }

    #[test]
    fn bars_grow_with_use() {
        assert_eq!(percent(1, 0), 0);
        assert_eq!(percent(799, 1000), 79);
        assert_eq!(percent(usize::MAX, usize::MAX), 100);
        let bar = |used| bar(used, 1000).into_string();
        assert!(bar(0).contains("width=\"0\""));
        assert!(bar(1).contains("width=\"1\""));
        assert!(bar(800).contains("bar high") && bar(950).contains("bar full"));
        assert!(bar(5000).contains("width=\"100\""));
    }

    #[test]
    fn names_of_senders_are_escaped() {
        let app = SectionId::new("<script>\u{202e}\n\"&", Producer::App);
        let shown = name(&app).into_string();
        assert_eq!(shown, "&lt;script&gt;\\u{202e}\\n&quot;&amp;");
        let group = SectionId::new("{job=\"a<b\",zone=\"\"}", Producer::Group);
        let shown = name(&group).into_string();
        assert!(shown.starts_with("<span class=\"label\"><span>job</span>=a&lt;b</span>"));
        assert_eq!(
            source_path(&group, "/metrics"),
            "/apps/%7Bjob%3D%22a%3Cb%22%2Czone%3D%22%22%7D/metrics?kind=group"
        );
        let long = SectionId::new(&"x".repeat(500), Producer::App);
        assert!(name(&long).into_string().len() < MAX_NAME + 8);
    }
}
