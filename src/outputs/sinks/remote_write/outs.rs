//! The series that are sent, each once, by the labels that the other system gets.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::batches::Batches;
use super::labeller::{Labelled, Labeller};
use super::request::{HistogramPoint, Metadata, Point, Protocol, SeriesLabels, kind_number};
use super::symbols::Symbols;
use crate::exposition::FamilyHead;
use crate::exposition::protobuf::RemoteHistogram;

/// The bits of Prometheus' staleness marker.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

/// The time of a series that has not been sent yet.
const NEVER: i64 = i64::MIN;

/// The series of a line of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target(u32);

impl Target {
    /// The series is not sent.
    pub const OMITTED: Target = Target(u32::MAX);
    /// The series has not been determined yet.
    pub const NEW: Target = Target(u32::MAX - 1);
    /// The flag of a line whose labels, as they are sent, another line already has.
    const REPEATED: u32 = 1 << 31;

    /// The series, if this line's value is sent for it.
    pub fn sent(self) -> Option<u32> {
        (self.0 & Self::REPEATED == 0).then_some(self.0)
    }

    /// The series that this line uses, even if another line's value is sent for it.
    fn used(self) -> Option<u32> {
        let is_known = self != Self::OMITTED && self != Self::NEW;
        is_known.then_some(self.0 & !Self::REPEATED)
    }
}

/// A series that is sent.
#[derive(Debug)]
struct Out {
    labels: SeriesLabels,
    metadata: Metadata,
    hash: u64,
    /// The bits of the last value, or a hash of the last histogram.
    value: u64,
    /// The time of the last point that was sent.
    sent: i64,
    /// The number of its lines.
    uses: u32,
    /// Whether the value of one of its lines is sent.
    owned: bool,
    /// Whether its points have their own times. Such a series gets no marker, since later points
    /// could be older than the marker.
    own_time: bool,
    native: bool,
}

/// Counts of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples that were queued, without staleness markers.
    pub samples: u64,
    /// Native histograms that were queued, without staleness markers.
    pub histograms: u64,
    /// Exemplars that were queued.
    pub exemplars: u64,
    /// Staleness markers that were queued.
    pub stale: u64,
    /// New series whose labels another series already has.
    pub repeated: u64,
    /// New series without a name.
    pub nameless: u64,
}

/// All series that are sent.
#[derive(Debug)]
pub struct Outs {
    labeller: Labeller,
    hasher: RandomState,
    /// Milliseconds after which an unchanged value is sent again; `None` for every round.
    resend: Option<i64>,
    all: Vec<Option<Out>>,
    free: Vec<u32>,
    by_labels: HashMap<u64, u32>,
    /// Series without lines.
    gone: Vec<u32>,
    symbols: Symbols,
    batches: Batches,
    /// Whether series get metadata in protocol 2.0.
    describes: bool,
    /// The family of the current lines, and its metadata.
    head: Option<Arc<FamilyHead>>,
    metadata: Metadata,
    /// Whether the line that a series was sent for is gone while the series still has other lines.
    orphaned: bool,
    /// Counts since they were last taken.
    pub tally: Tally,
}

impl Outs {
    /// No series yet.
    pub fn new(labeller: Labeller, resend: Option<i64>, describes: bool, batches: Batches) -> Self {
        Outs {
            labeller,
            hasher: RandomState::new(),
            resend,
            all: Vec::new(),
            free: Vec::new(),
            by_labels: HashMap::new(),
            gone: Vec::new(),
            symbols: Symbols::default(),
            batches,
            describes,
            head: None,
            metadata: Metadata::default(),
            orphaned: false,
            tally: Tally::default(),
        }
    }

    /// The number of series.
    pub fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Whether a series is no longer sent although it still has lines.
    pub fn take_orphaned(&mut self) -> bool {
        std::mem::take(&mut self.orphaned)
    }

    /// Sets the family of the lines that follow.
    pub fn enter(&mut self, head: Option<Arc<FamilyHead>>) {
        if self.describes && self.batches.protocol() == Protocol::V2 {
            let before = self.metadata;
            self.metadata = head
                .as_ref()
                .map_or_else(Metadata::default, |head| Metadata {
                    kind: kind_number(head.kind),
                    help: self.symbols.acquire(&head.help),
                    unit: self.symbols.acquire(&head.unit),
                });
            if self.head.is_some() {
                self.symbols.release(before.help);
                self.symbols.release(before.unit);
            }
        }
        self.head = head;
    }

    /// The family of the lines that follow.
    pub fn head(&self) -> Option<&Arc<FamilyHead>> {
        self.head.as_ref()
    }

    /// Determines the series of a new line. `line` is canonical text.
    pub fn resolve(&mut self, line: &str, native: bool) -> Target {
        let set = match self.labeller.label(line) {
            Labelled::Send(set) => set,
            Labelled::Omit => return Target::OMITTED,
            Labelled::Nameless => {
                self.tally.nameless += 1;
                return Target::OMITTED;
            }
        };
        let hash = self.hasher.hash_one((&set, native));
        let at = match self.by_labels.get(&hash) {
            Some(at) => *at,
            None => {
                let labels =
                    SeriesLabels::encode(self.batches.protocol(), set.iter(), &mut self.symbols);
                self.insert(Out {
                    labels,
                    metadata: Metadata::default(),
                    hash,
                    value: 0,
                    sent: NEVER,
                    uses: 0,
                    owned: false,
                    own_time: false,
                    native,
                })
            }
        };
        let Some(out) = &mut self.all[at as usize] else {
            return Target::OMITTED;
        };
        out.uses += 1;
        if std::mem::replace(&mut out.owned, true) {
            self.tally.repeated += 1;
            return Target(at | Target::REPEATED);
        }
        Target(at)
    }

    fn insert(&mut self, out: Out) -> u32 {
        let hash = out.hash;
        let at = match self.free.pop() {
            Some(at) => {
                self.all[at as usize] = Some(out);
                at
            }
            None => {
                self.all.push(Some(out));
                (self.all.len() - 1) as u32
            }
        };
        self.by_labels.insert(hash, at);
        at
    }

    /// Records that a line is gone.
    pub fn release(&mut self, target: Target) {
        let Some(at) = target.used() else { return };
        let Some(out) = &mut self.all[at as usize] else {
            return;
        };
        out.uses -= 1;
        if target.sent().is_some() {
            out.owned = false;
            self.orphaned |= out.uses > 0;
        }
        if out.uses == 0 {
            self.gone.push(at);
        }
    }

    /// Gives a series the metadata of the current family.
    pub fn describe(&mut self, target: Target) {
        let Some(at) = target.sent() else { return };
        let Some(out) = &mut self.all[at as usize] else {
            return;
        };
        let before = out.metadata;
        if before == self.metadata {
            return;
        }
        out.metadata = self.metadata;
        for symbol in [self.metadata.help, self.metadata.unit] {
            self.symbols.acquire_again(symbol);
        }
        if before != Metadata::default() {
            self.symbols.release(before.help);
            self.symbols.release(before.unit);
        }
    }

    /// Sends a value if it is due. Returns when it is due again if it does not change.
    #[inline]
    pub fn send(
        &mut self,
        target: Target,
        value: f64,
        timestamp: Option<i64>,
        round: Round,
    ) -> i64 {
        let Some(at) = target.sent() else {
            return i64::MAX;
        };
        let Some(out) = &mut self.all[at as usize] else {
            return i64::MAX;
        };
        let bits = value.to_bits();
        // Any NaN other than the staleness marker is a value.
        let bits = if bits == STALE {
            f64::NAN.to_bits()
        } else {
            bits
        };
        out.own_time = timestamp.is_some();
        if timestamp.is_some() || bits != out.value || round.is_due(out.sent, self.resend) {
            out.value = bits;
            let time = timestamp.unwrap_or(round.now);
            if time > out.sent {
                out.sent = time;
                self.tally.samples += 1;
                let point = Point::Value(bits, time);
                self.batches
                    .add(&out.labels, out.metadata, point, &mut self.symbols);
            }
        }
        match (timestamp, self.resend) {
            (Some(_), _) => i64::MAX,
            (None, Some(resend)) => out.sent.saturating_add(resend),
            (None, None) => i64::MIN,
        }
    }

    /// Sends the last value again if it is due. Returns when it is due next.
    pub fn send_again(&mut self, target: Target, round: Round) -> i64 {
        let out = target.sent().and_then(|at| self.all[at as usize].as_ref());
        match out {
            Some(out) if !out.own_time => {
                let value = f64::from_bits(out.value);
                self.send(target, value, None, round)
            }
            _ => i64::MAX,
        }
    }

    /// Sends a native histogram if it is due. `hash` is that of the stored message, which `convert`
    /// turns into a point.
    pub fn send_histogram(
        &mut self,
        target: Target,
        hash: u64,
        convert: impl FnOnce() -> Option<RemoteHistogram>,
        round: Round,
    ) {
        let Some(at) = target.sent() else { return };
        let Some(out) = &mut self.all[at as usize] else {
            return;
        };
        let changed = hash != out.value || out.sent == NEVER;
        if !changed && !round.is_due(out.sent, self.resend) {
            return;
        }
        let Some(converted) = convert() else { return };
        out.value = hash;
        out.sent = round.now;
        let point = HistogramPoint {
            message: converted.message,
            timestamp: round.now,
            created: converted.created,
            // Earlier exemplars were sent with their histogram.
            exemplars: match changed {
                true => converted.exemplars,
                false => Vec::new(),
            },
        };
        self.tally.histograms += 1;
        self.tally.exemplars += point.exemplars.len() as u64;
        let point = Point::Histogram(&point);
        self.batches
            .add(&out.labels, out.metadata, point, &mut self.symbols);
    }

    /// Adds the metadata of a family, in protocol 1.0.
    pub fn send_metadata(&mut self, head: &FamilyHead) {
        self.batches.add_metadata(head, &mut self.symbols);
    }

    /// Sends markers for all series, since no more samples will be sent.
    pub fn end_all(&mut self) {
        self.gone.clear();
        for (at, out) in self.all.iter_mut().enumerate() {
            if let Some(out) = out {
                out.uses = 0;
                self.gone.push(at as u32);
            }
        }
    }

    /// Sends markers for the series that are gone, and queues the last request of the round.
    /// `natives` says whether histograms are sent. Returns whether all requests found room; if not,
    /// the series that are gone are kept for the next round.
    pub fn finish(&mut self, now: i64, natives: bool) -> bool {
        let gone = std::mem::take(&mut self.gone);
        for at in &gone {
            let Some(out) = &mut self.all[*at as usize] else {
                continue;
            };
            let is_shown = out.sent != NEVER && !out.own_time && now > out.sent;
            if out.uses > 0 || !is_shown || (out.native && !natives) {
                continue;
            }
            // A series can be in the list twice; this skips it the second time.
            out.sent = now;
            self.tally.stale += 1;
            let histogram;
            let point = if out.native {
                histogram = HistogramPoint {
                    message: RemoteHistogram::stale(STALE),
                    timestamp: now,
                    ..HistogramPoint::default()
                };
                Point::Histogram(&histogram)
            } else {
                Point::Value(STALE, now)
            };
            self.batches
                .add(&out.labels, out.metadata, point, &mut self.symbols);
        }
        self.batches.flush();
        if self.batches.take_lost() {
            self.gone = gone;
            return false;
        }
        for at in gone {
            if let Some(out) = self.all[at as usize].take_if(|out| out.uses == 0) {
                self.by_labels.remove(&out.hash);
                self.free.push(at);
                out.labels.release(&mut self.symbols);
                if out.metadata != Metadata::default() {
                    self.symbols.release(out.metadata.help);
                    self.symbols.release(out.metadata.unit);
                }
            }
        }
        true
    }

    /// Encodes all series for protocol 1.0 from now on.
    pub fn fall_back(&mut self) {
        self.enter(None);
        for out in self.all.iter_mut().flatten() {
            if let SeriesLabels::Symbols(all) = &out.labels {
                let texts: Vec<&str> = all.iter().map(|it| self.symbols.text(*it)).collect();
                let pairs = texts.chunks_exact(2).map(|pair| (pair[0], pair[1]));
                let mut none = Symbols::default();
                out.labels = SeriesLabels::encode(Protocol::V1, pairs, &mut none);
            }
            out.metadata = Metadata::default();
        }
        self.symbols = Symbols::default();
        self.metadata = Metadata::default();
        self.batches.set_protocol(Protocol::V1);
    }

    /// The number of strings that protocol 2.0 holds.
    #[cfg(test)]
    pub fn symbols(&self) -> usize {
        self.symbols.len()
    }
}

/// One collection of all series.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// The time of samples without their own, in milliseconds since 1970.
    pub now: i64,
    /// How much earlier than due a value is sent again, so that a round that begins a little early
    /// does not skip it.
    pub tolerance: i64,
    /// Whether all values are sent, due or not.
    pub all: bool,
}

impl Round {
    fn is_due(self, sent: i64, resend: Option<i64>) -> bool {
        let Some(resend) = resend else { return true };
        self.all || sent == NEVER || self.is_reached(sent.saturating_add(resend))
    }

    /// Whether something that is due at `due` is sent in this round.
    pub fn is_reached(self, due: i64) -> bool {
        self.all || self.now.saturating_add(self.tolerance) >= due
    }
}
