//! Shows the effect of StatsD mapping rules on lines, for `exporter-proxy statsd-map`.

use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;
use std::sync::Arc;

use super::config::{Config, MappingFile};
use super::framing::Frame;
use super::mapping::Mapping;
use super::statsd;
use super::translate::{Action, NameCache, Translator};
use crate::exposition::unescape_help;
use crate::exposition::{InputFormat, Kind};
use crate::registry::{Change, NativeSpec, Update};

/// The limit on the length of a line, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// Reads StatsD lines and writes the result of each: the rule, and the changes that it makes.
/// `settings` are those of the table `operations`. Returns the number of rejected lines.
///
/// # Errors
///
/// The lines cannot be read, or the result cannot be written.
pub fn show(
    settings: &Config,
    path: &Path,
    mapping: Mapping,
    lines: &mut impl BufRead,
    out: &mut impl Write,
) -> io::Result<usize> {
    let settings = Config {
        statsd_mapping: Some(MappingFile {
            path: path.to_owned(),
            mapping: Arc::new(mapping),
        }),
        ..settings.clone()
    };
    let translator = Translator::new(&settings, false);
    let (mut rejected, mut bytes) = (0, Vec::new());
    loop {
        bytes.clear();
        if lines
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut bytes)?
            == 0
        {
            return Ok(rejected);
        }
        let line = bytes.trim_ascii_end();
        if line.is_empty() {
            continue;
        }
        writeln!(out, "{}", String::from_utf8_lossy(line))?;
        let frames = match statsd::split_typed_values(line) {
            Some(values) => values
                .into_iter()
                .map(|value| Frame::Value(Box::new(value)))
                .collect(),
            None => vec![Frame::Line(line)],
        };
        for frame in &frames {
            rejected += usize::from(!show_frame(&translator, frame, out)?);
        }
    }
}

/// Writes the result of a frame. Returns whether it is accepted.
fn show_frame(
    translator: &Translator,
    frame: &Frame<'_>,
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut updates = Vec::new();
    // A frame that cannot be read has no rule to name.
    let rule = match translator.rule_of(frame) {
        Some(Some(number)) => format!("rule {number}: "),
        Some(None) => "no rule: ".to_owned(),
        None => String::new(),
    };
    match translator.translate(frame, &[], &mut NameCache::default(), &mut updates) {
        Err(rejection) => {
            writeln!(
                out,
                "  {rule}rejected: {} ({})",
                rejection.message, rejection.reason
            )?;
            return Ok(false);
        }
        Ok(Action::AddMember(member)) => {
            let update = translator.set_size(&member, 1.0);
            let series = series(&update);
            writeln!(
                out,
                "  {rule}gauge {series}: distinct values, with {:?}",
                member.value
            )?;
        }
        Ok(_) if updates.is_empty() => writeln!(out, "  {rule}dropped")?,
        Ok(_) => {
            for update in &updates {
                writeln!(out, "  {rule}{}", shown(update))?;
            }
        }
    }
    Ok(true)
}

/// Describes a change.
fn shown(update: &Update) -> String {
    let kind = match update.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::Summary => "summary",
        _ => "untyped",
    };
    let change = match &update.change {
        Change::Add(value) => format!("add {value}"),
        Change::Set(value) => format!("set {value}"),
        Change::Observe {
            value,
            times,
            buckets,
            native,
        } => {
            let native = native.map(
                |NativeSpec {
                     schema,
                     max_buckets,
                 }| {
                    format!(", native buckets of schema {schema}, at most {max_buckets}")
                },
            );
            format!(
                "observe {value}{}, buckets {buckets:?}{}",
                weight(*times),
                native.unwrap_or_default()
            )
        }
        Change::ObserveQuantiles { value, times, spec } => format!(
            "observe {value}{}, quantiles {:?} of {:?}",
            weight(*times),
            spec.quantiles,
            spec.max_age
        ),
        other => format!("{other:?}"),
    };
    let ttl = update.ttl.map(|ttl| format!(", ttl {ttl:?}"));
    let help = update.help.as_deref().map(|help| {
        let help = unescape_help(help, InputFormat::Text);
        format!(", help {help:?}")
    });
    format!(
        "{kind} {}: {change}{}{}",
        series(update),
        ttl.unwrap_or_default(),
        help.unwrap_or_default()
    )
}

fn weight(times: f64) -> String {
    match times {
        1.0 => String::new(),
        times => format!(" {times} times"),
    }
}

fn series(update: &Update) -> String {
    match update.labels.is_empty() {
        true => update.family.to_string(),
        false => format!("{}{{{}}}", update.family, update.labels),
    }
}
