//! Translates messages and lines into changes of aggregated families.

mod event;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::framing::Frame;
use super::labels::{LabelLimits, LabelPairs, label_text};
use super::mapping::{Mapped, Mapper, Matched, Observer, Outcome, RuleOptions, SourceType, Tally};
use super::message::{self, Message};
use super::rejection::Rejection;
use super::statsd::events::{Notice, NoticeKind};
use super::statsd::{self, Field, MetricType, StatsdLine, TagStyles, ValueReader};
use crate::event::{Draft, EventKind};
use crate::exposition::{Kind, LabelText, is_plain_name, unescape, write_help};
use crate::reason::Reason;
use crate::registry::{Change, Update, ValueChange};
use crate::telemetry::{LoadedMapping, OWN_PREFIX};

/// The limit on proxies that forward an operation. Beyond it, a forwarding loop is assumed.
const MAX_HOPS: i64 = 8;

/// Translates messages by the settings.
#[derive(Debug)]
pub(super) struct Translator {
    ttl: Option<Duration>,
    limits: LabelLimits,
    /// Bucket bounds of StatsD timers, histograms and distributions.
    statsd_bounds: Arc<[f64]>,
    styles: TagStyles,
    /// DogStatsD fields that become labels.
    fields: Box<[Field]>,
    /// Whether DogStatsD events and service checks become metrics.
    counts_notices: bool,
    /// Rules for the names of StatsD lines.
    mapper: Option<Mapper>,
    /// Whether the proxy exposes its own metrics, which reserves their names.
    own_metrics: bool,
    /// For each kind of event, whether anything accepts it.
    events: [bool; EventKind::ALL.len()],
}

/// The action that a message asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action<'b> {
    /// Apply the changes, which were appended to the list. `hops` is how often the message
    /// has been forwarded.
    Update { hops: i64 },
    /// Apply the changes of a StatsD line, likewise appended.
    Line {
        /// The result of the mapping rules.
        matched: Option<Matched>,
        /// The reader of the values; `None` if a rule drops the line.
        reader: Option<ValueReader>,
    },
    /// Add a value to a set.
    AddMember(SetMember<'b>),
    /// Hand an event to its sink. `hops` is how often the message has been forwarded.
    Event { draft: Draft, hops: i64 },
    /// Stop the program.
    Shutdown,
}

impl Action<'_> {
    /// How often the message has been forwarded.
    pub(super) fn hops(&self) -> i64 {
        match self {
            Action::Update { hops } | Action::Event { hops, .. } => *hops,
            Action::Line { .. } | Action::AddMember(_) | Action::Shutdown => 0,
        }
    }
}

/// A value of a StatsD set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SetMember<'b> {
    pub(super) family: Arc<str>,
    pub(super) labels: LabelText,
    pub(super) value: &'b str,
    pub(super) ttl: Option<Duration>,
}

/// Valid family names seen recently. A name that is here needs neither a check nor an allocation.
#[derive(Debug, Default)]
pub(super) struct NameCache {
    names: [Option<Arc<str>>; 8],
    /// The outcomes of mapping since they were last taken.
    tally: Tally,
}

impl NameCache {
    /// The only entry that can hold a name.
    fn entry(&mut self, name: &str) -> &mut Option<Arc<str>> {
        let last = name.bytes().last().unwrap_or_default();
        let index = (name.len() + usize::from(last)) % self.names.len();
        &mut self.names[index]
    }

    /// Takes the outcomes of mapping since the last call.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Counts the outcome of a known line.
    pub(super) fn count_known(&mut self, matched: Option<Matched>) {
        if let Some(matched) = matched {
            self.tally.count_known(matched);
        }
    }
}

impl Translator {
    pub(super) fn new(config: &Config, own_metrics: bool) -> Self {
        Translator {
            ttl: Some(config.ttl).filter(|ttl| !ttl.is_zero()),
            limits: LabelLimits {
                count: config.max_labels,
                length: config.max_label_length,
            },
            statsd_bounds: Arc::from(&*config.statsd_buckets.0),
            styles: config.statsd_tags.0,
            fields: config.statsd_fields.0.as_slice().into(),
            counts_notices: config.statsd_events,
            mapper: config
                .statsd_mapping
                .as_ref()
                .map(|file| Mapper::new(&file.mapping, config.statsd_mapping_cache)),
            own_metrics,
            events: [false; EventKind::ALL.len()],
        }
    }

    /// The number of the rule that matches a line, from 1; `Some(None)` if no rule matches,
    /// and `None` if the line is invalid.
    pub(super) fn rule_of(&self, frame: &Frame<'_>) -> Option<Option<u32>> {
        let line = match frame {
            Frame::Line(line) => statsd::parse(line, self.styles),
            Frame::Value(value) => value.parse(self.styles),
            _ => return None,
        };
        let line = line.ok()?;
        let mapper = self.mapper.as_ref()?;
        let mapped = mapper.look_up(&line.name, source_type(&line), &mut Tally::default());
        Some(mapped.rule_number())
    }

    /// The values for the metrics about the mapping.
    pub(super) fn loaded_mapping(&self) -> Option<Arc<LoadedMapping>> {
        self.mapper.as_ref().map(Mapper::loaded)
    }

    /// Whether a name is one of the proxy's own metrics.
    fn is_reserved(&self, name: &str) -> bool {
        self.own_metrics && name.starts_with(OWN_PREFIX)
    }

    /// Sets which kinds of events are accepted.
    pub(super) fn accept_events(&mut self, accepts: impl Fn(EventKind) -> bool) {
        self.events = EventKind::ALL.map(accepts);
    }

    /// Translates a frame, and appends its changes to `updates`. `added` are labels for
    /// every series.
    ///
    /// # Errors
    ///
    /// The message is rejected. Some of its changes may have been appended already: the
    /// caller removes them.
    pub(super) fn translate<'b>(
        &self,
        frame: &Frame<'b>,
        added: &[(String, String)],
        names: &mut NameCache,
        updates: &mut Vec<Update>,
    ) -> Result<Action<'b>, Rejection> {
        match frame {
            Frame::Object(object) => self.message(message::parse(object)?, added, names, updates),
            Frame::Line(line) => {
                if self.counts_notices
                    && let Some(notice) = Notice::parse(line)
                {
                    return self.notice(notice?, added, names, updates);
                }
                self.line(&statsd::parse(line, self.styles)?, added, names, updates)
            }
            Frame::Value(value) => self.line(&value.parse(self.styles)?, added, names, updates),
            Frame::Invalid(rejection) => Err(rejection.clone()),
        }
    }

    fn message(
        &self,
        message: Message<'_>,
        added: &[(String, String)],
        names: &mut NameCache,
        updates: &mut Vec<Update>,
    ) -> Result<Action<'static>, Rejection> {
        let (kind, change) = match &*message.op {
            "inc" => {
                if message.value < 0.0 {
                    let problem = format!("a counter cannot go down, by {}", message.value);
                    return Err(Rejection::new(Reason::BadValue, problem));
                }
                (Kind::Counter, Change::Add(message.value))
            }
            "set" => (Kind::Gauge, Change::Set(message.value)),
            "add" => (Kind::Gauge, Change::Add(message.value)),
            "obs" => {
                let buckets = message
                    .buckets
                    .bounds()
                    .map_err(|problem| Rejection::new(Reason::BadBuckets, problem))?;
                let observe = Change::Observe {
                    value: message.value,
                    times: if message.times == 0.0 {
                        1.0
                    } else {
                        message.times
                    },
                    buckets,
                    native: None,
                };
                (Kind::Histogram, observe)
            }
            "del" => (Kind::Untyped, Change::Delete),
            "shutdown" => return Ok(Action::Shutdown),
            other => match EventKind::of(other) {
                Some(kind) if self.events[kind as usize] => {
                    check_hops(message.hops)?;
                    let hops = message.hops;
                    let draft = event::draft(kind, message, added, self.limits)?;
                    return Ok(Action::Event { draft, hops });
                }
                _ => return Err(unknown_op(other)),
            },
        };
        check_hops(message.hops)?;
        let family = self.family(&message.name, names)?;
        let help = message.help.as_deref().map(|help| self.help(help));
        let labels = label_text(message.labels, added, message.hops > 0, self.limits)?;
        if kind == Kind::Histogram && labels.iter().any(|label| label.name == "le") {
            let problem = "the label \"le\" belongs to the histogram itself";
            return Err(Rejection::new(Reason::BadLabels, problem));
        }
        updates.push(Update {
            family,
            kind,
            help: help.transpose()?,
            labels,
            ttl: self.ttl,
            change,
        });
        Ok(Action::Update { hops: message.hops })
    }

    fn line<'b>(
        &self,
        line: &StatsdLine<'b>,
        added: &[(String, String)],
        names: &mut NameCache,
        updates: &mut Vec<Update>,
    ) -> Result<Action<'b>, Rejection> {
        let mut tags: LabelPairs<'_> = line.tags().collect();
        for field in &*self.fields {
            let text = line.field(*field);
            if !text.is_empty() {
                tags.push((Cow::Borrowed(field.as_str()), Cow::Borrowed(text)));
            }
        }
        let mapped;
        let mut matched = None;
        let (family, labels, options) = match &self.mapper {
            None => {
                let family = self.family(&line.family_name()?, names)?;
                (family, label_text(tags, added, false, self.limits)?, None)
            }
            Some(mapper) => {
                mapped = mapper.look_up(&line.name, source_type(line), &mut names.tally);
                matched = Some(mapped.matched());
                let options = mapper.options(&mapped);
                let Some((family, labels)) = self.mapped_series(&mapped, options, tags, added)?
                else {
                    let reader = None;
                    return Ok(Action::Line { matched, reader });
                };
                (family, labels, Some(options))
            }
        };
        let ttl = options.and_then(|options| options.ttl).or(self.ttl);
        let scale = options.and_then(|options| options.scale).unwrap_or(1.0);
        let Some(reader) = line.reader(scale) else {
            let value = line.member()?;
            return Ok(Action::AddMember(SetMember {
                family,
                labels,
                value,
                ttl,
            }));
        };
        for text in line.values() {
            let (kind, change) = self.change(line, reader.read(text)?, options);
            updates.push(Update {
                family: Arc::clone(&family),
                kind,
                help: options.and_then(|options| options.help.clone()),
                labels: labels.clone(),
                ttl,
                change,
            });
        }
        Ok(Action::Line {
            matched,
            reader: Some(reader),
        })
    }

    /// The change for a value of a line, and the kind of its family.
    fn change(
        &self,
        line: &StatsdLine<'_>,
        change: ValueChange,
        options: Option<&RuleOptions>,
    ) -> (Kind, Change) {
        match (change, options.map(|options| &options.observer)) {
            (ValueChange::Add(value), _) if line.metric_type == MetricType::Counter => {
                (Kind::Counter, Change::Add(value))
            }
            (ValueChange::Add(value), _) => (Kind::Gauge, Change::Add(value)),
            (ValueChange::Set(value), _) => (Kind::Gauge, Change::Set(value)),
            (ValueChange::Observe { value, times }, Some(Observer::Summary(spec))) => {
                let spec = Arc::clone(spec);
                (
                    Kind::Summary,
                    Change::ObserveQuantiles { value, times, spec },
                )
            }
            (ValueChange::Observe { value, times }, observer) => {
                let (bounds, native) = match observer {
                    Some(Observer::Histogram(bounds, native)) => (bounds, *native),
                    _ => (&self.statsd_bounds, None),
                };
                let observe = Change::Observe {
                    value,
                    times,
                    buckets: Arc::clone(bounds),
                    native,
                };
                (Kind::Histogram, observe)
            }
        }
    }

    /// Counts an event, or sets the status of a check.
    fn notice(
        &self,
        notice: Notice<'_>,
        added: &[(String, String)],
        names: &mut NameCache,
        updates: &mut Vec<Update>,
    ) -> Result<Action<'static>, Rejection> {
        let (name, help, kind, change) = match notice.kind {
            NoticeKind::Event => (
                "dogstatsd_events_total",
                "Events of DogStatsD.",
                Kind::Counter,
                Change::Add(1.0),
            ),
            NoticeKind::Check(status) => (
                "dogstatsd_service_check_status",
                "Service checks of DogStatsD: 0 is good, 1 a warning, 2 critical, 3 unknown.",
                Kind::Gauge,
                Change::Set(f64::from(status)),
            ),
        };
        updates.push(Update {
            family: self.family(name, names)?,
            kind,
            help: Some(Arc::from(help)),
            labels: label_text(notice.labels, added, false, self.limits)?,
            ttl: self.ttl,
            change,
        });
        Ok(Action::Update { hops: 0 })
    }

    /// The family and labels that the rules give a line; `None` if they drop it.
    fn mapped_series(
        &self,
        mapped: &Mapped,
        options: &RuleOptions,
        tags: LabelPairs<'_>,
        added: &[(String, String)],
    ) -> Result<Option<(Arc<str>, LabelText)>, Rejection> {
        let Outcome::Series {
            family,
            labels,
            label_text: text,
        } = &mapped.outcome
        else {
            return Ok(None);
        };
        self.check_family(family)?;
        if let Some(text) = text
            && tags.is_empty()
            && added.is_empty()
            && labels.len() <= self.limits.count
            && text.len() <= self.limits.length
        {
            return Ok(Some((Arc::clone(family), text.clone())));
        }
        let own = labels
            .iter()
            .map(|(name, value)| (Cow::Borrowed(&**name), Cow::Borrowed(&**value)));
        // Of several labels with one name, the last one counts.
        let all: LabelPairs<'_> = match options.honor_labels {
            true => own.chain(tags).collect(),
            false => tags.into_iter().chain(own).collect(),
        };
        let labels = label_text(all, added, false, self.limits)?;
        Ok(Some((Arc::clone(family), labels)))
    }

    /// The change that sets the exposed size of a set.
    pub(super) fn set_size(&self, member: &SetMember<'_>, count: f64) -> Update {
        Update {
            family: Arc::clone(&member.family),
            kind: Kind::Gauge,
            help: None,
            labels: member.labels.clone(),
            ttl: member.ttl,
            change: Change::Set(count),
        }
    }

    fn family(&self, name: &str, names: &mut NameCache) -> Result<Arc<str>, Rejection> {
        let entry = names.entry(name);
        if let Some(known) = entry
            && **known == *name
        {
            return Ok(Arc::clone(known));
        }
        self.check_family(name)?;
        Ok(Arc::clone(entry.insert(Arc::from(name))))
    }

    /// Checks the name of a family.
    fn check_family(&self, name: &str) -> Result<(), Rejection> {
        if !is_plain_name(name) {
            let problem = if name.is_empty() {
                "the metric has no name".to_owned()
            } else {
                format!(
                    "invalid metric name {name:?}: use letters, digits, underscores and colons, and no digit first"
                )
            };
            return Err(Rejection::new(Reason::BadName, problem));
        }
        if name.len() > self.limits.length {
            let limit = self.limits.length;
            let problem =
                format!("the name has more than {limit} bytes (operations.max_label_length)");
            return Err(Rejection::new(Reason::BadName, problem));
        }
        if self.is_reserved(name) {
            let problem =
                format!("{name} is reserved for the proxy's own metrics (exporter.own_metrics)");
            return Err(Rejection::new(Reason::ReservedName, problem));
        }
        Ok(())
    }

    /// Checks a series that was shaped. Its name and labels are escaped.
    pub(super) fn check_shaped(&self, family: &str, labels: &LabelText) -> Result<(), Rejection> {
        let LabelLimits { count, length } = self.limits;
        if self.is_reserved(family) {
            let problem =
                format!("{family} is reserved for the proxy's own metrics (shape.metric_relabel)");
            return Err(Rejection::new(Reason::ReservedName, problem));
        }
        let is_long = |text: &str| unescape(text).len() > length;
        if is_long(family)
            || labels
                .iter()
                .any(|it| is_long(it.name) || is_long(it.value))
        {
            let problem = format!(
                "after shaping ([[shape]]), the name, or a label's name or value, has more than \
                 {length} bytes (operations.max_label_length)"
            );
            return Err(Rejection::new(Reason::BadLabels, problem));
        }
        let labels = labels.iter().count();
        if labels > count {
            let problem = format!(
                "after shaping ([[shape]]), the series has {labels} labels, and the limit is \
                 {count} (operations.max_labels)"
            );
            return Err(Rejection::new(Reason::BadLabels, problem));
        }
        Ok(())
    }

    fn help(&self, help: &str) -> Result<Arc<str>, Rejection> {
        if help.len() > self.limits.length {
            let limit = self.limits.length;
            let problem =
                format!("the help has more than {limit} bytes (operations.max_label_length)");
            return Err(Rejection::new(Reason::TooLarge, problem));
        }
        let mut escaped = String::with_capacity(help.len());
        write_help(&mut escaped, help);
        Ok(Arc::from(escaped))
    }
}

/// The type that rules match against.
fn source_type(line: &StatsdLine<'_>) -> SourceType {
    match line.metric_type {
        MetricType::Counter => SourceType::Counter,
        MetricType::Gauge | MetricType::Set => SourceType::Gauge,
        MetricType::Timer | MetricType::Histogram => SourceType::Observer,
    }
}

/// Rejects messages that have been forwarded too often.
fn check_hops(hops: i64) -> Result<(), Rejection> {
    if (0..=MAX_HOPS).contains(&hops) {
        return Ok(());
    }
    let problem =
        format!("hops must be 0 to {MAX_HOPS}, not {hops}: proxies may be forwarding in a ring");
    Err(Rejection::new(Reason::BadOperation, problem))
}

/// The rejection of an op that neither changes a metric nor has a sink.
fn unknown_op(op: &str) -> Rejection {
    let sink = match op {
        "event" => "loki",
        "index" => "opensearch",
        "raw" => "cql",
        "" => return Rejection::new(Reason::BadOperation, "the message has no op"),
        other => {
            let problem = format!(
                "the op must be one of inc, set, add, obs, del, event, index, raw, shutdown, not {other:?}"
            );
            return Rejection::new(Reason::BadOperation, problem);
        }
    };
    let problem = format!(
        "op {op} needs a sink, and none is configured: add a table [sinks.NAME] with type = \"{sink}\""
    );
    Rejection::new(Reason::Unsupported, problem)
}

#[cfg(test)]
mod tests;
