//! Checks a mapping file as statsd_exporter does, and compiles its rules.

use std::sync::Arc;
use std::time::Duration;

use super::globs::Globs;
use super::regexes::{self, Regexes};
use super::yaml::{
    self, WrittenDefaults, WrittenHistogram, WrittenQuantile, WrittenRule, WrittenSummary,
};
use super::{Mapping, Observer, Rule, RuleOptions, SourceType};
use crate::exposition::write_help;
use crate::registry::{MAX_AGE_BUCKETS, NativeSpec, QuantileSpec};
use crate::relabel::template::Template;
use crate::yaml::{YamlProblem, position};

/// The limit on rules.
const MAX_RULES: usize = 10_000;

/// The limit on labels of a rule.
const MAX_LABELS: usize = 64;

/// The limit on parts of a glob: a look-up follows them one by one.
const MAX_PARTS: usize = 64;

/// The limit on buckets, and on quantiles: each is a line of every series.
const MAX_LINES: usize = 200;

/// The defaults of Prometheus' Go library.
const DEFAULT_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const DEFAULT_QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(600);
const DEFAULT_AGE_BUCKETS: u32 = 5;

/// The limit on native buckets of a histogram.
const MAX_NATIVE_BUCKETS: u32 = 10_000;

/// The defaults of statsd_exporter.
const DEFAULT_NATIVE: NativeOptions = NativeOptions {
    factor: 1.1,
    max_buckets: 256,
};

/// The options for native buckets of histograms.
#[derive(Clone, Copy)]
struct NativeOptions {
    /// The factor from one bucket to the next; 1 or less for no native buckets.
    factor: f64,
    max_buckets: u32,
}

/// The defaults for rules.
struct Defaults {
    /// Whether observations become histograms, if set.
    is_histogram: Option<bool>,
    matches_regex: bool,
    ttl: Option<Duration>,
    buckets: Arc<[f64]>,
    native: NativeOptions,
    quantiles: Box<[f64]>,
    max_age: Duration,
    age_buckets: u32,
}

/// Reads and checks a mapping.
pub(super) fn mapping(text: &str) -> Result<Mapping, Vec<YamlProblem>> {
    let written = yaml::read(text).map_err(|problem| vec![problem])?;
    let rules = written.mappings.unwrap_or_default();
    let mut problems = Vec::new();
    let mut problem = |at, message| problems.push(YamlProblem { at, message });
    if rules.len() > MAX_RULES {
        problem(
            None,
            format!("has {} rules; the limit is {MAX_RULES}", rules.len()),
        );
    }
    let empty = WrittenDefaults::default();
    let (place, defaults) = match &written.defaults {
        Some(defaults) => (Some(position(&defaults.referenced)), &defaults.value),
        None => (None, &empty),
    };
    let ordered = !defaults.glob_disable_ordering.unwrap_or_default();
    let defaults = match Defaults::new(defaults) {
        Ok(defaults) => defaults,
        Err(message) => {
            problem(place, format!("defaults: {message}"));
            return Err(problems);
        }
    };
    let mut mapping = Mapping {
        text: Box::from(text),
        rules: Vec::new(),
        globs: Globs::new(ordered),
        regexes: Regexes::default(),
        unmapped: RuleOptions {
            honor_labels: false,
            scale: None,
            ttl: defaults.ttl,
            help: None,
            observer: match defaults.is_histogram {
                Some(true) => {
                    Observer::Histogram(Arc::clone(&defaults.buckets), defaults.native.spec())
                }
                _ => Observer::Summary(defaults.summary(None)),
            },
        },
    };
    for (number, written) in (0..).zip(rules.iter().take(MAX_RULES)) {
        match settle(number, &written.value, &defaults, &mut mapping) {
            Ok(rule) => mapping.rules.push(rule),
            Err(message) => {
                let at = Some(position(&written.referenced));
                problem(at, format!("rule {}: {message}", number + 1));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    mapping.regexes.finish();
    Ok(mapping)
}

impl Defaults {
    fn new(written: &WrittenDefaults) -> Result<Self, String> {
        let histogram = written.histogram_options.clone().unwrap_or_default();
        let summary = written.summary_options.clone().unwrap_or_default();
        let own = buckets(histogram.buckets.as_deref(), written.buckets.as_deref())?;
        let quantiles = quantiles(summary.quantiles.as_deref(), written.quantiles.as_deref())?;
        Ok(Defaults {
            is_histogram: observer_type(&written.observer_type, &written.timer_type)?,
            matches_regex: match_type(&written.match_type)?.unwrap_or_default(),
            ttl: positive(written.ttl),
            buckets: own.unwrap_or_else(|| Arc::from(DEFAULT_BUCKETS)),
            native: DEFAULT_NATIVE.with(&histogram)?,
            quantiles: quantiles.unwrap_or_else(|| Box::from(DEFAULT_QUANTILES)),
            max_age: positive(summary.max_age).unwrap_or(DEFAULT_MAX_AGE),
            age_buckets: age_buckets(&summary)?.unwrap_or(DEFAULT_AGE_BUCKETS),
        })
    }

    /// The summary of a rule without options of its own.
    fn summary(&self, quantiles: Option<Box<[f64]>>) -> Arc<QuantileSpec> {
        Arc::new(QuantileSpec {
            quantiles: quantiles.unwrap_or_else(|| self.quantiles.clone()),
            max_age: self.max_age,
            age_buckets: self.age_buckets,
        })
    }
}

impl NativeOptions {
    /// These options, overridden by those of `written`. There, 0 means not set.
    fn with(self, written: &WrittenHistogram) -> Result<Self, String> {
        let factor = written.native_histogram_bucket_factor;
        let max_buckets = written.native_histogram_max_buckets;
        let options = NativeOptions {
            factor: factor.filter(|it| *it != 0.0).unwrap_or(self.factor),
            max_buckets: max_buckets.filter(|it| *it > 0).unwrap_or(self.max_buckets),
        };
        if !options.factor.is_finite() || options.factor < 0.0 {
            return Err(format!(
                "native_histogram_bucket_factor must be finite and not negative, not {}",
                options.factor
            ));
        }
        if options.max_buckets > MAX_NATIVE_BUCKETS {
            return Err(format!(
                "native_histogram_max_buckets must be at most {MAX_NATIVE_BUCKETS}, not {}",
                options.max_buckets
            ));
        }
        Ok(options)
    }

    fn spec(self) -> Option<NativeSpec> {
        Some(NativeSpec {
            schema: NativeSpec::schema_of(self.factor)?,
            max_buckets: self.max_buckets,
        })
    }
}

/// Checks and compiles a rule, and adds its pattern to those of the mapping.
fn settle(
    number: u32,
    written: &WrittenRule,
    defaults: &Defaults,
    mapping: &mut Mapping,
) -> Result<Rule, String> {
    let drops = match written.action.as_deref() {
        None | Some("" | "map") => false,
        Some("drop") => true,
        Some(other) => return Err(format!("action must be map or drop, not {other:?}")),
    };
    let pattern = written.pattern.as_deref().unwrap_or_default();
    if pattern.is_empty() {
        return Err("match is missing".to_owned());
    }
    let name = written.name.as_deref().unwrap_or_default();
    if name.is_empty() && !drops {
        return Err("name is missing".to_owned());
    }
    if !name.is_empty() && !is_name_template(name) {
        return Err(format!(
            "name must have letters, digits, underscores and references such as $1, and no digit first, not {name:?}"
        ));
    }
    let source = match written.match_metric_type.as_deref() {
        None | Some("") => None,
        Some("counter") => Some(SourceType::Counter),
        Some("gauge") => Some(SourceType::Gauge),
        Some("observer" | "timer") => Some(SourceType::Observer),
        Some(other) => {
            return Err(format!(
                "match_metric_type must be counter, gauge or observer, not {other:?}"
            ));
        }
    };
    let options = RuleOptions {
        honor_labels: written.honor_labels.unwrap_or_default(),
        scale: scale(written.scale)?,
        ttl: positive(written.ttl).or(defaults.ttl),
        help: written
            .help
            .as_deref()
            .filter(|help| !help.is_empty())
            .map(|help| {
                let mut escaped = String::new();
                write_help(&mut escaped, help);
                Arc::from(escaped)
            }),
        observer: observer(written, defaults)?,
    };
    // The names of the captures, indexed by number.
    let mut groups: Vec<Option<String>> = Vec::new();
    if match_type(&written.match_type)?.unwrap_or(defaults.matches_regex) {
        let regex = regexes::compile(pattern).map_err(|problem| format!("match {problem}"))?;
        let names = regex.capture_names();
        groups.extend(names.map(|name| name.map(str::to_owned)));
        mapping.regexes.add(regex, source, number);
    } else {
        check_glob(pattern)?;
        mapping.globs.add(pattern, source, number);
    }
    let group = |name: &str| groups.iter().position(|own| own.as_deref() == Some(name));
    let template = |text: &str| Template::new(text, group);
    let labels = written.labels.iter().flatten();
    if labels.clone().count() > MAX_LABELS {
        return Err(format!("has more than {MAX_LABELS} labels"));
    }
    let labels = labels.map(|(name, value)| {
        if !is_word(name) || name.starts_with("__") {
            return Err(format!(
                "label names must have letters, digits and underscores, and neither a digit nor \"__\" first, not {name:?}"
            ));
        }
        Ok((name.clone(), template(value.as_deref().unwrap_or_default())))
    });
    Ok(Rule {
        labels: labels.collect::<Result<_, _>>()?,
        name: (!drops).then(|| template(name)),
        options,
    })
}

fn observer(written: &WrittenRule, defaults: &Defaults) -> Result<Observer, String> {
    let (histogram, summary) = (&written.histogram_options, &written.summary_options);
    if histogram.as_ref().is_some_and(|own| own.buckets.is_some()) && written.buckets.is_some() {
        return Err("buckets and histogram_options.buckets are both set: remove one".to_owned());
    }
    if summary.as_ref().is_some_and(|own| own.quantiles.is_some()) && written.quantiles.is_some() {
        return Err("quantiles and summary_options.quantiles are both set: remove one".to_owned());
    }
    let is_histogram = observer_type(&written.observer_type, &written.timer_type)?;
    let is_histogram = is_histogram.or(defaults.is_histogram);
    if is_histogram == Some(true) {
        if summary.is_some() {
            return Err("a histogram cannot have summary_options".to_owned());
        }
        let own = histogram.as_ref().and_then(|own| own.buckets.as_deref());
        let own = buckets(own, written.buckets.as_deref())?;
        let bounds = own.unwrap_or_else(|| Arc::clone(&defaults.buckets));
        let native = match histogram {
            Some(histogram) => defaults.native.with(histogram)?,
            None => defaults.native,
        };
        return Ok(Observer::Histogram(bounds, native.spec()));
    }
    // Without a type it is a summary too, and `histogram_options` are ignored.
    if histogram.is_some() && is_histogram.is_some() {
        return Err("a summary cannot have histogram_options".to_owned());
    }
    let summary = summary.clone().unwrap_or_default();
    let own = quantiles(summary.quantiles.as_deref(), written.quantiles.as_deref())?;
    let mut spec = QuantileSpec::clone(&defaults.summary(own));
    spec.max_age = positive(summary.max_age).unwrap_or(spec.max_age);
    spec.age_buckets = age_buckets(&summary)?.unwrap_or(spec.age_buckets);
    Ok(Observer::Summary(Arc::new(spec)))
}

/// Parses the type of observers: true for `histogram`, false for `summary`. The older key
/// counts if the other one is missing.
fn observer_type(own: &Option<String>, older: &Option<String>) -> Result<Option<bool>, String> {
    let parse = |key: &str, text: &Option<String>| match text.as_deref() {
        None | Some("") => Ok(None),
        Some("histogram") => Ok(Some(true)),
        Some("summary") => Ok(Some(false)),
        Some(other) => Err(format!("{key} must be histogram or summary, not {other:?}")),
    };
    let (own, older) = (parse("observer_type", own)?, parse("timer_type", older)?);
    Ok(own.or(older))
}

/// Parses the type of matches: true for `regex`, false for `glob`.
fn match_type(text: &Option<String>) -> Result<Option<bool>, String> {
    match text.as_deref() {
        None | Some("") => Ok(None),
        Some("regex") => Ok(Some(true)),
        Some("glob") => Ok(Some(false)),
        Some(other) => Err(format!("match_type must be glob or regex, not {other:?}")),
    }
}

fn scale(scale: Option<f64>) -> Result<Option<f64>, String> {
    match scale {
        Some(scale) if !scale.is_finite() => Err(format!("scale must be finite, not {scale}")),
        scale => Ok(scale),
    }
}

/// Checks the buckets: those of the first list that is not empty.
fn buckets(own: Option<&[f64]>, older: Option<&[f64]>) -> Result<Option<Arc<[f64]>>, String> {
    let lists = [own, older].into_iter().flatten();
    let Some(list) = lists.into_iter().find(|list| !list.is_empty()) else {
        return Ok(None);
    };
    // Every histogram gets `+Inf` anyway.
    let list = list.strip_suffix(&[f64::INFINITY]).unwrap_or(list);
    if list.is_empty() || list.len() > MAX_LINES {
        return Err(format!(
            "must have 1 to {MAX_LINES} buckets, not {}",
            list.len()
        ));
    }
    if list.iter().any(|bound| !bound.is_finite()) || !list.is_sorted_by(|a, b| a < b) {
        return Err(format!(
            "buckets must be finite and in ascending order, not {list:?}"
        ));
    }
    Ok(Some(Arc::from(list)))
}

/// Checks the quantiles: those of the first list that is not empty.
fn quantiles(
    own: Option<&[WrittenQuantile]>,
    older: Option<&[WrittenQuantile]>,
) -> Result<Option<Box<[f64]>>, String> {
    let lists = [own, older].into_iter().flatten();
    let Some(list) = lists.into_iter().find(|list| !list.is_empty()) else {
        return Ok(None);
    };
    if list.len() > MAX_LINES {
        return Err(format!(
            "has {} quantiles; the limit is {MAX_LINES}",
            list.len()
        ));
    }
    for WrittenQuantile { quantile, error } in list {
        if !(0.0..=1.0).contains(quantile) || !(0.0..=1.0).contains(error) {
            return Err(format!(
                "quantiles and their errors must be 0 to 1, not {quantile} and {error}"
            ));
        }
    }
    let mut quantiles: Vec<f64> = list.iter().map(|it| it.quantile).collect();
    quantiles.sort_unstable_by(f64::total_cmp);
    quantiles.dedup();
    Ok(Some(quantiles.into()))
}

fn age_buckets(summary: &WrittenSummary) -> Result<Option<u32>, String> {
    // The sketches have no buffer, so any size is accepted.
    let _ = summary.buf_cap;
    match summary.age_buckets {
        None | Some(0) => Ok(None),
        Some(count) if count <= MAX_AGE_BUCKETS => Ok(Some(count)),
        Some(count) => Err(format!(
            "has {count} age_buckets; the limit is {MAX_AGE_BUCKETS}"
        )),
    }
}

fn positive(duration: Option<yaml::GoDuration>) -> Option<Duration> {
    duration
        .map(|duration| duration.0)
        .filter(|duration| !duration.is_zero())
}

/// Checks a glob: its parts are stars, or letters, digits, underscores and hyphens.
fn check_glob(glob: &str) -> Result<(), String> {
    let is_part = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        part == "*" || (!part.starts_with('-') && !part.is_empty() && part.chars().all(fits))
    };
    let parts = glob.split('.').count();
    if parts > MAX_PARTS {
        return Err(format!("match has {parts} parts; the limit is {MAX_PARTS}"));
    }
    if !glob.split('.').all(is_part) || glob.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!(
            "match must have parts between dots, each a star or letters, digits, underscores and hyphens, and no digit first, not {glob:?} (match_type: regex takes regular expressions)"
        ));
    }
    Ok(())
}

/// Whether a name consists of word characters and references, and does not begin with a digit.
fn is_name_template(name: &str) -> bool {
    let mut rest = name;
    while let Some(at) = rest.find('$') {
        if !rest[..at].chars().all(is_word_character) {
            return false;
        }
        let after = &rest[at + 1..];
        let braced = after.strip_prefix('{');
        let after = braced.unwrap_or(after);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            return false;
        }
        let after = &after[digits..];
        rest = after.strip_prefix('}').unwrap_or(after);
    }
    rest.chars().all(is_word_character) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn is_word_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(is_word_character)
        && !name.starts_with(|c: char| c.is_ascii_digit())
}
