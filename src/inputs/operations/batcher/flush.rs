//! Applies the collected messages of a batcher, or hands them to the sink.

use std::mem::take;

use super::Batcher;
use crate::clock::Now;
use crate::event::{EventKind, StoredEvent};
use crate::fairness::Account;
use crate::inputs::operations::framing::Frame;
use crate::inputs::operations::processor::Target;
use crate::inputs::operations::rejection::Rejection;
use crate::inputs::operations::sink::LineSink;
use crate::inputs::operations::translate::{NameCache, SetMember};
use crate::reason::Reason;
use crate::registry::{Batch, Change, Changeset, Update};
use crate::store::Store;

impl<'b, R: FnMut(u64, &Rejection)> Batcher<'_, 'b, R> {
    /// Hands events to their sinks.
    fn flush_events(&mut self) {
        let mut all = take(&mut self.events);
        let processor = self.processor;
        for kind in EventKind::ALL {
            let of_kind = all.extract_if(.., |(_, other, _)| *other == kind);
            let (numbers, events): (Vec<u64>, Vec<StoredEvent>) =
                of_kind.map(|(number, _, event)| (number, event)).unzip();
            if events.is_empty() {
                continue;
            }
            let (taken, rest) = processor.events.push(kind, events);
            let transport = self.source.transport;
            processor.stats.count_applied(transport, taken);
            if let Err(rejection) = rest {
                for number in numbers.into_iter().skip(taken) {
                    self.finish(number, Err(rejection.clone()));
                }
            }
        }
    }

    pub(super) fn flush(&mut self) {
        self.flush_known();
        self.flush_unknown();
    }

    /// Changes the values of known lines. If one of them needs more than a change of its
    /// value, it and all after it are translated like other messages.
    pub(super) fn flush_known(&mut self) {
        let changes = take(&mut self.known_changes);
        let (Some(known), Some(store)) = (&self.known, self.processor.target.store()) else {
            return;
        };
        if changes.is_empty() {
            return;
        }
        let series = changes.iter().filter_map(|change| {
            let (series, _) = known.line(change.known).series.as_ref()?;
            Some((series, change.change))
        });
        let made = store.change_known(series, Now::read());
        for change in &changes[..made] {
            self.names.count_known(known.line(change.known).matched);
        }
        let transport = self.source.transport;
        self.processor.stats.count_applied(transport, made);
        for change in &changes[made..] {
            self.translate(change.number, Frame::Line(change.line));
        }
    }

    /// Applies or hands on everything pending except known lines.
    pub(super) fn flush_unknown(&mut self) {
        if !self.events.is_empty() {
            self.flush_events();
        }
        if self.pending.is_empty() {
            return;
        }
        let processor = self.processor;
        let (pending, shaped) = (take(&mut self.pending), take(&mut self.shaped));
        let result = match &processor.target {
            Target::Sink(sink) => {
                if let Err(rejection) = sink.push(take(&mut self.lines)) {
                    for (number, _) in pending {
                        self.finish(number, Err(rejection.clone()));
                    }
                    return;
                }
                Ok(())
            }
            Target::Store(store) => self.apply_pending(store),
            Target::Tee(store, sink) => {
                let lines = take(&mut self.lines);
                let result = self.apply_pending(store);
                if result.is_ok() {
                    copy_to(sink, lines);
                }
                result
            }
        };
        match result {
            Ok(()) => {
                let transport = self.source.transport;
                processor.stats.count_applied(transport, pending.len());
                processor.shapes.count(shaped);
            }
            Err(rejection) if pending.len() == 1 => self.finish(pending[0].0, Err(rejection)),
            Err(_) => self.apply_each(pending),
        }
    }

    fn apply_pending(&mut self, store: &Store) -> Result<(), Rejection> {
        let updates = take(&mut self.updates);
        self.forget_deleted_sets(&updates);
        apply(store, updates, &self.account)
    }

    /// Applies each message alone, after their batch was rejected. The messages are
    /// translated again: this is rare, and keeping the changes of each message apart would
    /// slow down all others.
    fn apply_each(&mut self, pending: Vec<(u64, Frame<'b>)>) {
        let processor = self.processor;
        let Some(store) = processor.target.store() else {
            return;
        };
        // The results of rules have been counted already.
        let mut again = NameCache::default();
        for (number, frame) in pending {
            let mut updates = Vec::new();
            let (translator, names) = (&processor.translator, &mut again);
            let translated = translator.translate(&frame, &self.added, names, &mut updates);
            let translated =
                translated.and_then(|action| Ok((action, self.shape_updates(&mut updates)?)));
            let mut lines = Vec::new();
            if let (Some(sink), Ok((action, _))) = (processor.target.sink(), &translated) {
                processor.encode(sink, &frame, &updates, action.hops(), &mut lines);
            }
            let result = translated.and_then(|(_, shaped)| {
                apply(store, updates, &self.account)?;
                processor.shapes.count(shaped);
                Ok(())
            });
            if let (Some(sink), Ok(())) = (processor.target.sink(), &result) {
                copy_to(sink, lines);
            }
            self.finish(number, result);
        }
    }

    pub(super) fn finish(&mut self, number: u64, result: Result<(), Rejection>) {
        match result {
            Ok(()) => {
                let transport = self.source.transport;
                self.processor.stats.count_applied(transport, 1);
            }
            Err(rejection) => {
                self.processor.reject(self.source, self.peer, &rejection);
                (self.on_rejection)(number, &rejection);
            }
        }
    }

    /// Forgets the sets whose series are deleted.
    fn forget_deleted_sets(&self, updates: &[Update]) {
        for update in updates {
            if update.change == Change::Delete {
                let sets = &self.processor.sets;
                sets.forget(&update.family, &update.labels);
            }
        }
    }

    pub(super) fn add_member(
        &mut self,
        member: &SetMember<'_>,
        frame: &Frame<'_>,
    ) -> Result<(), Rejection> {
        let processor = self.processor;
        let (family, labels) = (&member.family, &member.labels);
        let now = Now::read();
        let series_exists = || match &processor.target {
            Target::Store(store) | Target::Tee(store, _) => {
                store.has_series(family, labels.as_str())
            }
            Target::Sink(_) => true,
        };
        let store_count = |count| {
            let update = processor.translator.set_size(member, count);
            match &processor.target {
                Target::Store(store) => apply(store, vec![update], &self.account),
                Target::Tee(store, sink) => {
                    let mut line = Vec::new();
                    let updates = std::slice::from_ref(&update);
                    processor.encode(sink, frame, updates, 0, &mut line);
                    apply(store, vec![update], &self.account)?;
                    copy_to(sink, line);
                    Ok(())
                }
                Target::Sink(sink) => {
                    let mut line = Vec::new();
                    sink.encode(&update, 0, &mut line);
                    sink.push(line)
                }
            }
        };
        let (sets, value) = (&processor.sets, member.value);
        sets.add(family, labels, value, now, series_exists, store_count)
    }
}

/// Hands on lines that are also applied here. A full sink counts what it misses.
fn copy_to(sink: &LineSink, lines: Vec<u8>) {
    if !lines.is_empty() {
        let _ = sink.push(lines);
    }
}

/// Applies updates, and charges the series that they create.
fn apply(store: &Store, updates: Vec<Update>, account: &Account) -> Result<(), Rejection> {
    let batch = Batch {
        updates,
        ..Batch::default()
    };
    let now = Now::read();
    let added = store
        .operate_and(batch, now, Changeset::added_series)
        .map_err(|rejected| Rejection::new(Reason::from(&rejected), rejected.to_string()))?;
    account.charge_series(added, now.tick);
    Ok(())
}
