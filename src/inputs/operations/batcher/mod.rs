//! Collects messages that were read at once and translates them. [`flush`] applies them in
//! batches, or hands them to the sink.

mod flush;

use std::mem::take;
use std::sync::{Arc, MutexGuard};

use super::framing::Frame;
use super::known_lines::{Found, KnownLines, Lookup};
use super::mapping::Tally;
use super::permission::Permission;
use super::processor::{Processor, Source, Target};
use super::rejection::Rejection;
use super::sink::LineSink;
use super::statsd;
use super::translate::{Action, NameCache};
use crate::clock::Now;
use crate::event::{Draft, EventKind, StoredEvent};
use crate::exposition::{LabelText, ShapedCounts};
use crate::fairness::Account;
use crate::ingest::shaping::config::Input;
use crate::ingest::shaping::{Series, Shaping};
use crate::peer::Peer;
use crate::reason::Reason;
use crate::registry::{Update, ValueChange};

/// The limit on changes in one batch. It bounds how long the registry is locked: a
/// millisecond at most.
const MAX_BATCH: usize = 512;

/// The number of lines that are looked up together.
const LOOKUPS: usize = 32;

/// The size of a typical message in bytes, for estimating the initial capacity of a batch.
const TYPICAL_MESSAGE: usize = 64;

/// Collects messages that were read at once, and applies them in batches.
#[derive(Debug)]
pub(super) struct Batcher<'p, 'b, R: FnMut(u64, &Rejection)> {
    processor: &'p Processor,
    source: &'b Source,
    /// Labels to add to every series.
    added: Arc<Vec<(String, String)>>,
    /// Shaping rules, applied after labels are added.
    shaping: Shaping<'p>,
    /// The number of the next message.
    number: u64,
    /// The number of messages to reserve memory for.
    expected: usize,
    names: NameCache,
    updates: Vec<Update>,
    /// Changes encoded for the sink.
    lines: Vec<u8>,
    /// The messages that produced `updates` or `lines`, with their numbers.
    pending: Vec<(u64, Frame<'b>)>,
    /// What shaping has done to these messages. It is counted once they are applied.
    shaped: ShapedCounts,
    /// Lines to look up together. Every other message first waits for them, which keeps the order.
    lookups: Vec<Lookup<'b>>,
    /// The known lines; `None` if lines may do more than change values.
    known: Option<MutexGuard<'b, KnownLines>>,
    /// Changes of known lines. While there are any, nothing else is pending, which keeps
    /// the order.
    known_changes: Vec<KnownChange<'b>>,
    /// Events for sinks, with the numbers of their messages.
    events: Vec<(u64, EventKind, StoredEvent)>,
    /// The permission of the sender of the next message.
    permission: Permission,
    /// The sender of all messages, for the log. Unknown for datagrams, since several
    /// senders' are read at once.
    peer: Peer,
    /// The account charged for the series that the messages create.
    account: Account,
    on_rejection: R,
}

/// A known line, with the number of its message.
#[derive(Debug)]
struct KnownChange<'b> {
    number: u64,
    line: &'b [u8],
    known: u32,
    change: ValueChange,
}

impl<'p, 'b, R: FnMut(u64, &Rejection)> Batcher<'p, 'b, R> {
    /// A batcher for messages of `bytes` bytes in total, which were read at once. The first
    /// one has the number `number`. Rejections are counted, logged, and passed to
    /// `on_rejection` with the number of the message.
    pub(super) fn new(
        processor: &'p Processor,
        source: &'b Source,
        bytes: usize,
        number: u64,
        on_rejection: R,
    ) -> Self {
        let added = processor.added_labels(source);
        let shaping = Shaping::of_input(
            &processor.shapes.list,
            Input::Operations,
            Some(&source.name),
        );
        let only_changes = matches!(processor.target, Target::Store(_))
            && processor.access.is_none()
            && shaping.is_empty();
        let mut known = if only_changes {
            source.known_lines()
        } else {
            None
        };
        if let Some(known) = &mut known {
            known.expect_labels(&added);
        }
        Batcher {
            processor,
            source,
            added,
            shaping,
            number,
            expected: (bytes / TYPICAL_MESSAGE).clamp(1, MAX_BATCH),
            names: NameCache::default(),
            updates: Vec::new(),
            lines: Vec::new(),
            pending: Vec::new(),
            shaped: ShapedCounts::default(),
            lookups: Vec::new(),
            known,
            known_changes: Vec::new(),
            events: Vec::new(),
            permission: Permission::ALL,
            peer: Peer::Unknown,
            account: Account::default(),
            on_rejection,
        }
    }

    /// Sets the sender of all messages.
    pub(super) fn sent_by(self, peer: Peer) -> Self {
        Batcher { peer, ..self }
    }

    /// The number of the next message.
    pub(super) fn number(&mut self) -> u64 {
        self.add_looked_up();
        self.number
    }

    /// Sets the permission of the sender of the next messages.
    pub(super) fn permit(&mut self, permission: Permission) {
        self.permission = permission;
    }

    /// Sets the account of the sender of the next messages.
    pub(super) fn charge_to(&mut self, account: &Account) {
        if !self.account.charges_series_like(account) {
            // The series of one batch are charged to one account.
            self.add_looked_up();
            self.flush();
        }
        self.account = account.clone();
    }

    /// Adds a frame: a message, or a line that may hold several.
    pub(super) fn add(&mut self, frame: Frame<'b>) {
        match (frame, &self.known) {
            (Frame::Line(line), Some(known)) => {
                self.lookups.push(known.lookup(line));
                if self.lookups.len() >= LOOKUPS {
                    self.add_looked_up();
                }
            }
            (Frame::Line(line), None) => self.add_line(line),
            (frame, _) => {
                self.add_looked_up();
                self.add_message(frame);
            }
        }
    }

    /// Adds the lines that wait for a look-up.
    fn add_looked_up(&mut self) {
        let mut lookups = take(&mut self.lookups);
        if let Some(known) = &self.known {
            known.prefetch(&mut lookups);
        }
        for lookup in &lookups {
            if !self.add_known(lookup) {
                self.add_line(lookup.line);
            }
        }
        lookups.clear();
        self.lookups = lookups;
    }

    fn add_line(&mut self, line: &'b [u8]) {
        match statsd::split_typed_values(line) {
            None => self.add_message(Frame::Line(line)),
            Some(values) => {
                for value in values {
                    self.add_message(Frame::Value(Box::new(value)));
                }
            }
        }
    }

    /// Adds the change of a known line. Returns false if the line must be parsed.
    fn add_known(&mut self, lookup: &Lookup<'b>) -> bool {
        let found = self.known.as_ref().and_then(|known| known.find(lookup));
        match found {
            None => return false,
            Some(Found::Dropped(matched)) => {
                self.names.count_known(matched);
                self.finish(self.number, Ok(()));
            }
            Some(Found::Change(known, change)) => {
                self.flush_unknown();
                if self.known_changes.is_empty() {
                    self.known_changes.reserve(self.expected);
                }
                self.known_changes.push(KnownChange {
                    number: self.number,
                    line: lookup.line,
                    known,
                    change,
                });
            }
        }
        self.number += 1;
        if self.known_changes.len() >= MAX_BATCH {
            self.flush_known();
        }
        true
    }

    fn add_message(&mut self, frame: Frame<'b>) {
        self.flush_known();
        let number = self.number;
        self.number += 1;
        self.translate(number, frame);
    }

    fn translate(&mut self, number: u64, frame: Frame<'b>) {
        if self.pending.is_empty() {
            self.pending.reserve(self.expected);
            self.updates.reserve(self.expected);
        }
        let before = self.updates.len();
        let (translator, names) = (&self.processor.translator, &mut self.names);
        let translated = translator.translate(&frame, &self.added, names, &mut self.updates);
        let permission = &self.permission;
        let translated = translated.and_then(|action| {
            match &action {
                Action::AddMember(member) => {
                    permission.check_series(&member.family, &member.labels)?;
                }
                Action::Event { draft, .. } => permission.check_event(draft)?,
                Action::Update { .. } | Action::Line { .. } | Action::Shutdown => {}
            }
            for update in &self.updates[before..] {
                permission.check_series(&update.family, &update.labels)?;
            }
            Ok(action)
        });
        let translated = translated.and_then(|action| Ok((action, self.shape(before)?)));
        match translated {
            Ok((action @ (Action::Update { .. } | Action::Line { .. }), shaped)) => {
                self.shaped += shaped;
                let hops = action.hops();
                self.learn(&frame, &action, before);
                let processor = self.processor;
                if let Some(sink) = processor.target.sink() {
                    let updates = &self.updates[before..];
                    processor.encode(sink, &frame, updates, hops, &mut self.lines);
                }
                if processor.target.store().is_none() {
                    self.updates.truncate(before);
                }
                self.keep_pending(number, frame);
            }
            Ok((Action::AddMember(_), _)) if self.processor.only_copies(&frame) => {
                LineSink::copy(&frame, &mut self.lines);
                self.keep_pending(number, frame);
            }
            Ok((Action::AddMember(mut member), mut shaped)) => {
                // Earlier messages may affect the same set.
                self.flush();
                let (family, labels) = (&mut member.family, &mut member.labels);
                let result = match self.keeps(family, labels, &mut shaped) {
                    Ok(true) => self.add_member(&member, &frame),
                    kept => kept.map(|_| ()),
                };
                if result.is_ok() {
                    self.processor.shapes.count(shaped);
                }
                self.finish(number, result);
            }
            Ok((Action::Event { draft, hops }, _)) => self.add_event(number, frame, draft, hops),
            Ok((Action::Shutdown, _)) => {
                self.flush();
                let result = self.processor.shut_down(self.source, &self.permission);
                self.finish(number, result);
            }
            Err(rejection) => {
                self.updates.truncate(before);
                self.finish(number, Err(rejection));
            }
        }
    }

    /// Remembers the result of a line, whose changes begin at index `from`.
    fn learn(&mut self, frame: &Frame<'b>, action: &Action<'b>, from: usize) {
        let (Some(known), Frame::Line(line)) = (&mut self.known, frame) else {
            return;
        };
        match (action, &self.updates[from..]) {
            (
                Action::Line {
                    matched,
                    reader: Some(reader),
                },
                [update],
            ) => {
                known.learn(line, *matched, Some((update, *reader)));
            }
            (
                Action::Line {
                    matched,
                    reader: None,
                },
                [],
            ) => known.learn(line, *matched, None),
            _ => {}
        }
    }

    /// Keeps a message whose changes or lines wait to be flushed.
    fn keep_pending(&mut self, number: u64, frame: Frame<'b>) {
        self.pending.push((number, frame));
        if self.pending.len() >= MAX_BATCH || self.updates.len() >= MAX_BATCH {
            self.flush();
        }
    }

    /// Shapes the updates from index `from` on. Returns what that did.
    fn shape(&mut self, from: usize) -> Result<ShapedCounts, Rejection> {
        if self.shaping.is_empty() {
            return Ok(ShapedCounts::default());
        }
        let mut updates = self.updates.split_off(from);
        let result = self.shape_updates(&mut updates);
        self.updates.append(&mut updates);
        result
    }

    fn shape_updates(&self, updates: &mut Vec<Update>) -> Result<ShapedCounts, Rejection> {
        let (mut counts, mut result) = (ShapedCounts::default(), Ok(()));
        updates.retain_mut(|update| {
            let kept = self.keeps(&mut update.family, &mut update.labels, &mut counts);
            kept.unwrap_or_else(|rejection| {
                result = Err(rejection);
                true
            })
        });
        result.map(|()| counts)
    }

    /// Shapes a series, and adds what that did to `counts`. Returns whether to keep it.
    fn keeps(
        &self,
        family: &mut Arc<str>,
        labels: &mut LabelText,
        counts: &mut ShapedCounts,
    ) -> Result<bool, Rejection> {
        if self.shaping.is_empty() {
            return Ok(true);
        }
        let mut series = Series { family, labels };
        let kept = self.shaping.apply_to_series(&mut series, counts);
        let kept = kept.map_err(|problem| Rejection::new(Reason::BadSeries, problem))?;
        if kept {
            self.processor.translator.check_shaped(family, labels)?;
        }
        Ok(kept)
    }

    /// Flushes everything. Returns the number of the next message.
    pub(super) fn end(mut self) -> u64 {
        self.add_looked_up();
        self.flush();
        let Tally {
            mapped,
            dropped,
            unmapped,
            cache_hits,
            cache_misses,
        } = self.names.take_tally();
        let stats = self.processor.stats.mapping();
        stats.mapped.add(mapped);
        stats.dropped.add(dropped);
        stats.unmapped.add(unmapped);
        stats.cache_hits.add(cache_hits);
        stats.cache_misses.add(cache_misses);
        self.number
    }

    /// Keeps an event for the sink of its kind. Without such a sink, it is forwarded as a line.
    fn add_event(&mut self, number: u64, frame: Frame<'b>, draft: Draft, hops: i64) {
        let processor = self.processor;
        match &processor.target {
            Target::Sink(sink) | Target::Tee(_, sink) if !processor.events.accepts(draft.kind) => {
                sink.encode_event(&draft, hops, &mut self.lines);
                self.pending.push((number, frame));
            }
            _ => {
                let kind = draft.kind;
                let event = processor.events.stamp(draft, Now::read());
                self.events.push((number, kind, event));
            }
        }
        if self.pending.len() >= MAX_BATCH || self.events.len() >= MAX_BATCH {
            self.flush();
        }
    }
}
