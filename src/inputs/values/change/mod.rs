//! Applies the changes of `/create` and `/update` to aggregated families, as in pingpong.
//! The reply reports the changed values.
//!
//! | | [`Action::Create`] | [`Action::Update`] |
//! | --- | --- | --- |
//! | unknown family | is created | is ignored |
//! | counter, untyped | the value is added | the same; a missing, zero or negative value counts as 1 |
//! | gauge | is set (`push.gauges`) | the same |
//! | histogram, summary | is added | the same |
//!
//! As in aggregating pushes, `push.rules` and `clearmode` apply. A family without a type
//! takes the type of the aggregated one. Timestamps are ignored.

mod sent;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::families_json::{self, JsonLimits};
use crate::clock::Now;
use crate::exposition::{
    Kind, LabelText, MetricValue, TimestampPolicy, labels_text, needs_quotes, write_number,
    write_series,
};
use crate::ingest::aggregation::{FamilyUpdates, empty_batch};
use crate::ingest::bounds::check_batch;
use crate::ingest::shaping::Shaping;
use crate::ingest::{Addition, Admission, Body, Group, KeyOutcome, Rejection};
use crate::reason::Reason;
use crate::registry::{Batch, Changeset, SeriesTotals};
use crate::store::{MemoryLeft, Store};
use crate::telemetry::PushMethod;
use sent::{Position, SentFamily, of_json, of_text};

/// The limit on the length of a report, in bytes. A name is sent once but reported on each
/// line, so a small body could otherwise cause a report of any length.
const MAX_REPORT: usize = 16 << 20;

/// The treatment of families that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `/create` creates them.
    Create,
    /// `/update` ignores them.
    Update,
}

impl Action {
    /// The word for logs and labels of metrics.
    pub fn as_str(self) -> &'static str {
        self.counted().as_str()
    }

    /// The value of the `method` label in metrics.
    pub fn counted(self) -> PushMethod {
        match self {
            Action::Create => PushMethod::Create,
            Action::Update => PushMethod::Update,
        }
    }
}

/// The format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// Families as JSON.
    Json,
    /// Text format 0.0.4 or OpenMetrics.
    Text,
}

impl BodyFormat {
    /// The format for a `Content-Type`, whose parameters are ignored. The type of forms
    /// counts as text, since `curl --data-binary` sends it for every body.
    ///
    /// # Errors
    ///
    /// The type is missing or not supported.
    pub fn of(content_type: &str) -> Result<Self, Rejection> {
        const KNOWN: &str =
            "application/json, or text/plain or application/x-www-form-urlencoded for text";
        let name = content_type.split(';').next().unwrap_or_default().trim();
        match name.to_ascii_lowercase().as_str() {
            "application/json" => Ok(BodyFormat::Json),
            "text/plain" | "application/x-www-form-urlencoded" => Ok(BodyFormat::Text),
            "" => {
                let message = format!("there is no Content-Type: it must be {KNOWN}");
                Err(Rejection::new(Reason::BadParameter, &message))
            }
            _ => {
                let message = format!("the Content-Type is {name:?}, and must be {KNOWN}");
                Err(Rejection::new(Reason::UnsupportedMedia, &message))
            }
        }
    }
}

/// A line of the report.
#[derive(Debug)]
struct ReportLine {
    labels: LabelText,
    /// The sent number; for a histogram or summary, its count.
    sent: f64,
    /// The suffix of the sample's name.
    suffix: &'static str,
}

/// The updates of a request, and the report about them.
#[derive(Debug)]
struct PlannedChange {
    batch: Batch,
    /// In the order of the request.
    families: Vec<FamilyReport>,
}

/// The report about one family.
#[derive(Debug)]
struct FamilyReport {
    name: Arc<str>,
    /// For an update, one line for each series, in the order of first occurrence.
    rows: Vec<ReportLine>,
}

impl FamilyReport {
    /// An upper bound on the bytes of the report.
    fn max_bytes(&self) -> usize {
        // The length of a number with the words, quotes and braces around it.
        const OVERHEAD: usize = 48;
        let rows = self.rows.iter();
        let rows = rows.map(|row| self.name.len() + row.suffix.len() + row.labels.len() + OVERHEAD);
        self.name.len() + OVERHEAD + rows.sum::<usize>()
    }
}

/// Turns values into changes of aggregated families.
#[derive(Debug)]
pub struct Changer {
    /// Checks the families, and remembers idempotency keys.
    pub admission: Arc<Admission>,
}

impl Changer {
    /// Changes aggregated families, as a whole or not at all, and returns the report in
    /// pingpong's words. For each family, `Create` reports `created metric...` even if it
    /// already exists, a line for each item with the sent value, and an empty line.
    /// `Update` reports a line for each series with its new value. The report of a push
    /// repeated with the same idempotency key is empty.
    ///
    /// # Errors
    ///
    /// The body or a value is not valid, or the registry rejects the updates.
    pub fn change(
        &self,
        store: &Store,
        (action, format): (Action, BodyFormat),
        body: Body<'_>,
        addition: &Addition,
        now: Now,
    ) -> Result<(KeyOutcome, String), Rejection> {
        let ttl = self.admission.series_ttl(addition);
        let families;
        let sent = match format {
            BodyFormat::Json => {
                let limits = JsonLimits {
                    families: self.admission.exposition.max_families,
                    values: self.admission.exposition.max_samples,
                    labels: self.admission.exposition.max_labels,
                    length: self.admission.exposition.max_label_length,
                };
                let (families, alone) = families_json::decode(body.bytes, limits)?;
                of_json(families, alone)?
            }
            BodyFormat::Text => {
                let text = Body {
                    content_type: "",
                    ..body
                };
                families = self.admission.families_with(
                    &Group::default(),
                    text,
                    (TimestampPolicy::Strip, Shaping::default()),
                    || MemoryLeft::UNLIMITED,
                )?;
                of_text(&families)?
            }
        };
        for family in &sent {
            self.admission.check_name(&family.name)?;
        }
        let kinds = store.aggregated_kinds(sent.iter().map(|family| &*family.name));
        let PlannedChange { batch, families } = self.plan(action, sent, &kinds, ttl)?;
        check_batch(&addition.scope, &batch)?;
        if families.iter().map(FamilyReport::max_bytes).sum::<usize>() > MAX_REPORT {
            let message = format!(
                "the reply would have more than {MAX_REPORT} bytes: send the values in several parts"
            );
            return Err(Rejection::new(Reason::TooLarge, &message));
        }
        let mut reply = None;
        let content = (action.as_str(), body.content_type, body.bytes, ttl);
        let outcome = self.admission.apply_once(addition, content, now, || {
            reply = Some(match action {
                Action::Create => {
                    let added = store.operate_and(batch, now, Changeset::added_series)?;
                    addition.account.charge_series(added, now.tick);
                    None
                }
                Action::Update => store.operate_and(batch, now, Changeset::totals).map(Some)?,
            });
            Ok(())
        })?;
        // Write the report after the registry is unlocked.
        let reply = match reply {
            None => String::new(),
            Some(None) => created_text(&families),
            Some(Some(totals)) => totals_text(&families, &totals),
        };
        Ok((outcome, reply))
    }

    /// Returns the updates for families. `kinds` are the kinds of existing aggregated families.
    fn plan(
        &self,
        action: Action,
        sent: Vec<SentFamily<'_>>,
        kinds: &[Option<Kind>],
        ttl: Option<Duration>,
    ) -> Result<PlannedChange, Rejection> {
        let mut batch = empty_batch(&self.admission.aggregation);
        // A family may expire after its kind was read.
        batch.existing_only = action == Action::Update;
        let mut families = Vec::with_capacity(sent.len());
        for (family, current) in sent.into_iter().zip(kinds) {
            let kind = match (family.kind, current) {
                (Kind::Untyped, Some(current)) => *current,
                (sent, _) => sent,
            };
            let mut updates =
                FamilyUpdates::new(&family.name, kind, &self.admission.aggregation, ttl);
            updates.help.clone_from(&family.help);
            let mut rows = Vec::with_capacity(family.items.len());
            for item in family.items {
                let row = checked_value(action, kind, item.value).and_then(|value| {
                    let (sent, suffix) = number_of(&value);
                    let labels = updates.add(&mut batch, &item.labels, value)?;
                    Ok(ReportLine {
                        labels,
                        sent,
                        suffix,
                    })
                });
                rows.push(row.map_err(|problem| {
                    let position = item.position.describe(&family.name);
                    match item.position {
                        Position::Line(line) => {
                            let labels = labels_text(&item.labels);
                            let message = format!("{position}, {{{labels}}}: {problem}");
                            Rejection::new(Reason::BadValue, &message).at(line, None)
                        }
                        Position::Json(..) => {
                            Rejection::new(Reason::BadValue, &format!("{position}: {problem}"))
                        }
                    }
                })?);
            }
            if action == Action::Update {
                let mut seen = HashSet::with_capacity(rows.len());
                rows.retain(|row: &ReportLine| seen.insert(row.labels.clone()));
            }
            families.push(FamilyReport {
                name: family.name,
                rows,
            });
        }
        Ok(PlannedChange { batch, families })
    }
}

fn created_text(families: &[FamilyReport]) -> String {
    let mut out = String::new();
    for FamilyReport { name, rows } in families {
        out.push_str("created metric...\n");
        for row in rows {
            row.write(&mut out, name, row.sent);
        }
        out.push('\n');
    }
    out
}

fn totals_text(families: &[FamilyReport], totals: &SeriesTotals) -> String {
    let mut out = String::new();
    let mut totals = totals.iter().peekable();
    for FamilyReport { name, rows } in families {
        // The totals are those of series in existing families, in the order of the rows.
        for row in rows {
            let Some((_, total)) = totals.next_if(|(family, _)| *family == name) else {
                break;
            };
            if let Some(total) = total {
                row.write(&mut out, name, total);
            }
        }
    }
    out
}

impl ReportLine {
    fn write(&self, out: &mut String, name: &str, value: f64) {
        let quoted = needs_quotes(name);
        write_series(
            out,
            [name, self.suffix],
            quoted,
            [self.labels.as_str(), "", ""],
        );
        if self.labels.is_empty() && !quoted {
            out.push_str("{}");
        }
        out.push(' ');
        write_number(out, value);
        out.push('\n');
    }
}

/// Checks the value of an item in a family of `kind`.
fn checked_value(
    action: Action,
    kind: Kind,
    value: Option<MetricValue>,
) -> Result<MetricValue, String> {
    let counted = matches!(kind, Kind::Counter | Kind::Untyped);
    let number = match value {
        None if counted && action == Action::Update => 1.0,
        None => return Err("it has no value".to_owned()),
        Some(
            MetricValue::Counter(value) | MetricValue::Gauge(value) | MetricValue::Untyped(value),
        ) => value,
        Some(value @ MetricValue::Histogram { .. }) if kind == Kind::Histogram => return Ok(value),
        Some(value @ MetricValue::Summary { .. }) if kind == Kind::Summary => return Ok(value),
        Some(value) => {
            let (kind, other) = (kind.with_article(), value_kind(&value));
            return Err(format!("it is a {other}, but its family is {kind}"));
        }
    };
    if number.is_nan() {
        return Err("its value is not a number (NaN)".to_owned());
    }
    if number.is_infinite() && counted {
        return Err("its value is infinite and cannot be added".to_owned());
    }
    let number = match action {
        // As in pingpong, a value that is not positive counts as 1.
        Action::Update if counted && number <= 0.0 => 1.0,
        _ => number,
    };
    match kind {
        Kind::Counter if number < 0.0 => Err(format!(
            "its value is {number}, and a counter cannot decrease"
        )),
        Kind::Counter => Ok(MetricValue::Counter(number)),
        Kind::Untyped => Ok(MetricValue::Untyped(number)),
        Kind::Histogram | Kind::Summary => {
            let kind = kind.with_article();
            Err(format!("it is a single value, but its family is {kind}"))
        }
        _ => Ok(MetricValue::Gauge(number)),
    }
}

fn value_kind(value: &MetricValue) -> &'static str {
    match value {
        MetricValue::Counter(_) | MetricValue::Gauge(_) | MetricValue::Untyped(_) => "single value",
        MetricValue::Histogram { .. } => "histogram",
        MetricValue::Summary { .. } => "summary",
    }
}

/// The number reported for a value, and the suffix of its sample.
fn number_of(value: &MetricValue) -> (f64, &'static str) {
    match value {
        MetricValue::Counter(value) | MetricValue::Gauge(value) | MetricValue::Untyped(value) => {
            (*value, "")
        }
        MetricValue::Histogram { buckets, count, .. } => {
            let last = buckets.last().map(|(_, count)| *count);
            (count.or(last).unwrap_or_default(), "_count")
        }
        MetricValue::Summary {
            sum, count: None, ..
        } => (sum.unwrap_or_default(), "_sum"),
        MetricValue::Summary {
            count: Some(count), ..
        } => (*count, "_count"),
    }
}

#[cfg(test)]
mod tests;
