//! Operations: programs that keep no state say what to count, and the values
//! are kept here.
//!
//! Bytes flow through these steps, the first four of them pure:
//!
//! 1. [`framing`] cuts what came in into JSON objects and lines of StatsD;
//! 2. [`message`] and [`statsd`] read one of them;
//! 3. [`operation`] makes changes of living families of it, with the labels
//!    that [`labels`] puts together;
//! 4. what came in at once becomes one batch, here in [`Turn`]; where that is
//!    refused, each message goes alone, so that none spoils its neighbours;
//! 5. [`stream`] and [`datagrams`] read sockets, which [`sockets`] binds.
//!
//! Beside them: [`forward`] sends operations on instead of applying them,
//! [`extra`] keeps the labels of a file, [`sets`] the values of StatsD's sets.

mod buckets;
pub mod config;
mod datagrams;
mod elsewhere;
mod extra;
mod fault;
mod forward;
mod framing;
mod labels;
mod message;
mod operation;
mod sets;
mod sockets;
mod statsd;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use fault::Fault;
pub use framing::{Found, Framer};
pub use sockets::Sockets;

use crate::clock::Now;
use crate::reason::Reason;
use crate::registry::{Batch, Change, Update};
use crate::store::Store;
use crate::telemetry::sender_log::{self, LogEvent};
use crate::telemetry::{OperationStats, Transport};
use config::ForwardTo;
use extra::Extra;
use forward::Forward;
use operation::{Asked, Member, Names, Reader};
use sets::Sets;

/// Changes that are made at once: so long the registry is locked, a millisecond
/// at most.
const LARGEST_BATCH: usize = 512;

/// Bytes of an ordinary message. It only says how much room a batch gets from
/// the start.
const USUAL: usize = 64;

/// How often the file of labels and the sets are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where operations end: what all sockets share.
#[derive(Debug)]
pub struct Operations {
    config: config::Config,
    reader: Reader,
    sink: Sink,
    sets: Sets,
    extra: Arc<Extra>,
    stats: Arc<OperationStats>,
    /// Connections that the proxy has ended and still reads, at most as many as
    /// may be open on one socket.
    endings: Semaphore,
    /// Cancelled where a sender stops the program.
    shutdown: CancellationToken,
}

#[derive(Debug)]
enum Sink {
    Store(Arc<Store>),
    Forward(Arc<Forward>),
}

/// Where operations come from: one socket.
#[derive(Debug)]
pub struct Source {
    pub transport: Transport,
    /// Its address or path, for the log.
    pub name: String,
    /// `data_source` and `source_app`, where they are wanted.
    labels: Vec<(String, String)>,
}

impl Source {
    /// `configured` is the socket as the settings call it; `name` is as it
    /// was bound.
    pub fn new(
        config: &config::Config,
        transport: Transport,
        configured: &str,
        name: String,
    ) -> Self {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let labels = if config.source_labels {
            vec![
                label("data_source", configured),
                label("source_app", labels::source_app(configured)),
            ]
        } else {
            Vec::new()
        };
        Source {
            transport,
            name,
            labels,
        }
    }
}

impl Operations {
    /// `shutdown` is cancelled where a sender may, and does, stop the program.
    pub fn new(
        config: &config::Config,
        own_metrics: bool,
        store: &Arc<Store>,
        stats: &Arc<OperationStats>,
        shutdown: CancellationToken,
    ) -> Self {
        let sink = match &config.forward_to {
            ForwardTo::Off => Sink::Store(Arc::clone(store)),
            to => Sink::Forward(Arc::new(Forward::new(
                to.clone(),
                config.forward_queue,
                forward::host_name(),
                Arc::clone(stats),
            ))),
        };
        let ttl = Some(config.ttl).filter(|ttl| !ttl.is_zero());
        Operations {
            config: config.clone(),
            reader: Reader::new(config, own_metrics),
            sink,
            sets: Sets::new(config.max_set_values, ttl),
            extra: Arc::new(Extra::new(config)),
            stats: Arc::clone(stats),
            endings: Semaphore::new(config.concurrent_connections.min(Semaphore::MAX_PERMITS)),
            shutdown,
        }
    }

    /// Spawns what runs beside the sockets.
    pub fn start(self: &Arc<Self>, stop: &CancellationToken, tasks: &TaskTracker) {
        tasks.spawn(Arc::clone(&self.extra).watch(LOOK, stop.clone()));
        if let Sink::Forward(forward) = &self.sink {
            tasks.spawn(Arc::clone(forward).run(stop.clone()));
        }
        if !self.config.ttl.is_zero() {
            let operations = Arc::clone(self);
            let stop = stop.clone();
            tasks.spawn(async move {
                let mut looks = interval(LOOK);
                looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        _ = looks.tick() => operations.sets.expire(Now::read().tick),
                    }
                }
            });
        }
    }

    /// Begins to take what has come in at once, so many bytes. `number` is that
    /// of the next message. What is refused is counted and logged, and given to `refused`
    /// with its number.
    pub fn turn<'b, R: FnMut(u64, &Fault)>(
        &self,
        source: &'b Source,
        bytes: usize,
        number: u64,
        refused: R,
    ) -> Turn<'_, 'b, R> {
        let mut added = self.extra.labels();
        if !source.labels.is_empty() {
            Arc::make_mut(&mut added).extend(source.labels.iter().cloned());
        }
        Turn {
            operations: self,
            source,
            added,
            number,
            expected: (bytes / USUAL).clamp(1, LARGEST_BATCH),
            names: Names::default(),
            updates: Vec::new(),
            lines: Vec::new(),
            taken: Vec::new(),
            refused,
        }
    }

    /// Counts and logs what was refused.
    fn refuse(&self, source: &Source, fault: &Fault) {
        self.stats.count_refused(source.transport, fault.reason);
        let who = format_args!("operations {}: a message is", source.name);
        sender_log::rejected(
            LogEvent::OperationRejected,
            who,
            fault.reason,
            &fault.message,
        );
    }
}

/// Messages that came in at once, on their way into one batch.
#[derive(Debug)]
pub struct Turn<'o, 'b, R: FnMut(u64, &Fault)> {
    operations: &'o Operations,
    source: &'b Source,
    /// Labels that are put on every series.
    added: Arc<Vec<(String, String)>>,
    number: u64,
    /// Messages that there is room for from the start.
    expected: usize,
    names: Names,
    updates: Vec<Update>,
    /// The same to be sent on.
    lines: Vec<u8>,
    /// The messages that `updates` or `lines` were made of, with their
    /// numbers.
    taken: Vec<(u64, Found<'b>)>,
    refused: R,
}

impl<'b, R: FnMut(u64, &Fault)> Turn<'_, 'b, R> {
    /// Takes what was found: a message, or a line of several.
    pub fn take(&mut self, found: Found<'b>) {
        if let Found::Line(line) = &found
            && let Some(pieces) = statsd::cut(line)
        {
            for piece in pieces {
                self.take_one(Found::Value(Box::new(piece)));
            }
            return;
        }
        self.take_one(found);
    }

    fn take_one(&mut self, found: Found<'b>) {
        let number = self.number;
        self.number += 1;
        if self.taken.is_empty() {
            self.taken.reserve(self.expected);
            self.updates.reserve(self.expected);
        }
        let before = self.updates.len();
        let (reader, names) = (&self.operations.reader, &mut self.names);
        match reader.read(&found, &self.added, names, &mut self.updates) {
            Ok(Asked::Changes { hops }) => {
                if let Sink::Forward(forward) = &self.operations.sink {
                    for update in self.updates.drain(before..) {
                        forward.write(&update, hops, &mut self.lines);
                    }
                }
                self.taken.push((number, found));
                if self.taken.len() >= LARGEST_BATCH || self.updates.len() >= LARGEST_BATCH {
                    self.flush();
                }
            }
            Ok(Asked::Member(member)) => {
                // What came before it may be of the same set.
                self.flush();
                let result = self.add_member(&member);
                self.finish(number, result);
            }
            Ok(Asked::Shutdown) => {
                self.flush();
                let result = self.shut_down();
                self.finish(number, result);
            }
            Err(fault) => {
                self.updates.truncate(before);
                self.finish(number, Err(fault));
            }
        }
    }

    /// Applies what was taken. Returns the number of the next message.
    pub fn end(mut self) -> u64 {
        self.flush();
        self.number
    }

    fn flush(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let operations = self.operations;
        let taken = std::mem::take(&mut self.taken);
        let result = match &operations.sink {
            Sink::Forward(forward) => {
                let result = forward.push(&self.lines);
                self.lines.clear();
                if let Err(fault) = result {
                    for (number, _) in taken {
                        self.finish(number, Err(fault.clone()));
                    }
                    return;
                }
                Ok(())
            }
            Sink::Store(store) => {
                let updates = std::mem::take(&mut self.updates);
                self.forget_sets(&updates);
                apply(store, updates)
            }
        };
        match result {
            Ok(()) => {
                let transport = self.source.transport;
                operations.stats.count_applied(transport, taken.len());
            }
            Err(fault) if taken.len() == 1 => self.finish(taken[0].0, Err(fault)),
            Err(_) => self.apply_each(taken),
        }
    }

    /// Applies each message alone, since all together were refused. They are
    /// read again: that is rare, and keeping them would cost all others.
    fn apply_each(&mut self, taken: Vec<(u64, Found<'b>)>) {
        let operations = self.operations;
        let Sink::Store(store) = &operations.sink else {
            return;
        };
        for (number, found) in taken {
            let mut updates = Vec::new();
            let (reader, names) = (&operations.reader, &mut self.names);
            let read = reader.read(&found, &self.added, names, &mut updates);
            let result = read.and_then(|_| apply(store, updates));
            self.finish(number, result);
        }
    }

    fn finish(&mut self, number: u64, result: Result<(), Fault>) {
        match result {
            Ok(()) => {
                let transport = self.source.transport;
                self.operations.stats.count_applied(transport, 1);
            }
            Err(fault) => {
                self.operations.refuse(self.source, &fault);
                (self.refused)(number, &fault);
            }
        }
    }

    /// The sets of series that are deleted.
    fn forget_sets(&self, updates: &[Update]) {
        for update in updates {
            if update.change == Change::Delete {
                self.operations.sets.forget(&update.family, &update.labels);
            }
        }
    }

    fn add_member(&mut self, member: &Member<'_>) -> Result<(), Fault> {
        let operations = self.operations;
        let (family, labels) = (&member.family, &member.labels);
        let now = Now::read().tick;
        let lives = || match &operations.sink {
            Sink::Store(store) => store.has_series(family, labels.as_str()),
            Sink::Forward(_) => true,
        };
        operations
            .sets
            .add(family, labels, member.value, now, lives, |count| {
                let update = operations.reader.member_update(member, count);
                match &operations.sink {
                    Sink::Store(store) => apply(store, vec![update]),
                    Sink::Forward(forward) => {
                        let mut line = Vec::new();
                        forward.write(&update, 0, &mut line);
                        forward.push(&line)
                    }
                }
            })
    }

    fn shut_down(&self) -> Result<(), Fault> {
        let (operations, source) = (self.operations, self.source);
        let transport = source.transport;
        if !matches!(transport, Transport::Unix | Transport::UnixDatagram) {
            let problem = "op shutdown is taken from Unix sockets only";
            return Err(Fault::new(Reason::NotAllowed, problem));
        }
        if !operations.config.allow_shutdown {
            let problem = "op shutdown is not allowed (operations.allow_shutdown)";
            return Err(Fault::new(Reason::NotAllowed, problem));
        }
        sender_log::write(
            LogEvent::Removal,
            format_args!("operations {}: told to stop by op shutdown", source.name),
        );
        operations.shutdown.cancel();
        Ok(())
    }
}

fn apply(store: &Store, updates: Vec<Update>) -> Result<(), Fault> {
    let batch = Batch {
        updates,
        ..Batch::default()
    };
    store
        .operate(batch, Now::read())
        .map_err(|refused| Fault::new(Reason::from(&refused), refused.to_string()))
}
