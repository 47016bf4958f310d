//! The state that all sockets for operations share.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::extra_labels::ExtraLabels;
use super::framing::Frame;
use super::known_lines::KnownLines;
use super::labels;
use super::permission::Permission;
use super::rejection::Rejection;
use super::sets::Sets;
use super::sink::{EventSinks, LineSink};
use super::translate::Translator;
use crate::fairness::Fairness;
use crate::ingest::shaping::Shapes;
use crate::peer::Peer;
use crate::reason::Reason;
use crate::registry::Update;
use crate::security::{Access, ListenerKind};
use crate::store::Store;
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{OperationStats, Transport};

/// Settings, counters and state that all sockets share.
#[derive(Debug)]
pub(super) struct Processor {
    pub(super) config: Config,
    pub(super) translator: Translator,
    pub(super) target: Target,
    /// The sinks of events.
    pub(super) events: Arc<EventSinks>,
    pub(super) sets: Arc<Sets>,
    pub(super) extra_labels: Arc<ExtraLabels>,
    pub(super) stats: Arc<OperationStats>,
    /// Decides who may send; `None` if everyone may.
    pub(super) access: Option<Arc<Access>>,
    /// Decides how much each sender may send.
    pub(super) fairness: Arc<Fairness>,
    /// Shaping rules for changes.
    pub(super) shapes: Arc<Shapes>,
    /// Permits for connections that the proxy has ended but still reads: as many as for
    /// open connections of one socket.
    pub(super) closing: Semaphore,
    /// Cancelled when a sender stops the program.
    pub(super) quit: CancellationToken,
}

/// Where changes are applied.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// Values are kept here.
    Store(Arc<Store>),
    /// Another program keeps the values.
    Sink(Arc<LineSink>),
    /// Both this program and another one keep them.
    Tee(Arc<Store>, Arc<LineSink>),
}

impl Target {
    /// The store, if values are kept here.
    pub(super) fn store(&self) -> Option<&Arc<Store>> {
        match self {
            Target::Store(store) | Target::Tee(store, _) => Some(store),
            Target::Sink(_) => None,
        }
    }

    /// The sink, if operations are forwarded.
    pub(super) fn sink(&self) -> Option<&Arc<LineSink>> {
        match self {
            Target::Sink(sink) | Target::Tee(_, sink) => Some(sink),
            Target::Store(_) => None,
        }
    }
}

/// The state that the senders of one socket share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) processor: Arc<Processor>,
    pub(super) source: Arc<Source>,
    /// Cancelled when the socket is closed.
    pub(super) stop: CancellationToken,
}

/// The socket that operations come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) transport: Transport,
    /// The bound address or path, for the log.
    pub(super) name: String,
    /// `data_source` and `source_app`, if `operations.source_labels` is set.
    labels: Vec<(String, String)>,
    /// Lines recently read from it.
    known_lines: Mutex<KnownLines>,
}

impl Source {
    /// `configured` is the socket as configured, `name` as it was bound.
    pub(super) fn new(
        config: &Config,
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
            known_lines: Mutex::default(),
        }
    }

    /// The known lines; `None` while another connection uses them, to avoid waiting.
    pub(super) fn known_lines(&self) -> Option<MutexGuard<'_, KnownLines>> {
        match self.known_lines.try_lock() {
            Ok(lines) => Some(lines),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Processor {
    /// `own_metrics` says whether the proxy exposes its own metrics, which reserves their
    /// names. `quit` is cancelled when a sender stops the program.
    pub(super) fn new(
        config: &Config,
        own_metrics: bool,
        (target, sets): (Target, Arc<Sets>),
        extra_labels: &Arc<ExtraLabels>,
        stats: &Arc<OperationStats>,
        quit: CancellationToken,
    ) -> Self {
        let translator = Translator::new(config, own_metrics);
        stats.mapping().load(translator.loaded_mapping());
        Processor {
            config: config.clone(),
            translator,
            target,
            events: Arc::default(),
            sets,
            extra_labels: Arc::clone(extra_labels),
            stats: Arc::clone(stats),
            access: None,
            fairness: Arc::new(Fairness::unlimited()),
            shapes: Arc::default(),
            closing: Semaphore::new(config.concurrent_connections.min(Semaphore::MAX_PERMITS)),
            quit,
        }
    }

    /// Hands events to sinks. If operations are forwarded, events without a sink are, too.
    #[must_use]
    pub(super) fn sending_events(mut self, events: &Arc<EventSinks>) -> Self {
        let forwards = self.target.sink().is_some();
        let accepts = |kind| forwards || events.accepts(kind);
        self.translator.accept_events(accepts);
        self.events = Arc::clone(events);
        self
    }

    /// Accepts messages only from senders with the role.
    #[must_use]
    pub(super) fn guarded_by(mut self, access: &Arc<Access>) -> Self {
        self.access = (!access.is_open(ListenerKind::Operations)).then(|| Arc::clone(access));
        self
    }

    /// Limits how much each sender may send.
    #[must_use]
    pub(super) fn limited_by(mut self, fairness: &Arc<Fairness>) -> Self {
        self.fairness = Arc::clone(fairness);
        self
    }

    /// Changes labels and drops changes by the rules of `[[shape]]`.
    #[must_use]
    pub(super) fn shaped_by(mut self, shapes: &Arc<Shapes>) -> Self {
        self.shapes = Arc::clone(shapes);
        self
    }

    /// The labels to add to every series of `source`.
    pub(super) fn added_labels(&self, source: &Source) -> Arc<Vec<(String, String)>> {
        let mut added = self.extra_labels.current();
        if !source.labels.is_empty() {
            Arc::make_mut(&mut added).extend(source.labels.iter().cloned());
        }
        added
    }

    /// Encodes the changes of a message for `sink`, or copies its line verbatim.
    pub(super) fn encode(
        &self,
        sink: &LineSink,
        frame: &Frame<'_>,
        updates: &[Update],
        hops: i64,
        lines: &mut Vec<u8>,
    ) {
        if self.config.forward_raw && LineSink::copy(frame, lines) {
            return;
        }
        for update in updates {
            sink.encode(update, hops, lines);
        }
    }

    /// Whether a message is only forwarded verbatim.
    pub(super) fn only_copies(&self, frame: &Frame<'_>) -> bool {
        self.config.forward_raw
            && self.target.store().is_none()
            && matches!(frame, Frame::Line(_) | Frame::Value(_))
    }

    /// Stops the program, if that is allowed.
    ///
    /// # Errors
    ///
    /// The settings, the socket or the sender do not allow it.
    pub(super) fn shut_down(
        &self,
        source: &Source,
        permission: &Permission,
    ) -> Result<(), Rejection> {
        let is_local = matches!(source.transport, Transport::Unix | Transport::UnixDatagram);
        if !is_local {
            let problem = "op shutdown is accepted on Unix sockets only";
            return Err(Rejection::new(Reason::NotAllowed, problem));
        }
        if !self.config.allow_shutdown {
            let problem = "op shutdown is not allowed (operations.allow_shutdown)";
            return Err(Rejection::new(Reason::NotAllowed, problem));
        }
        permission.check_stop()?;
        sender_log::write(
            LogEvent::Removal,
            About::NOTHING,
            format_args!(
                "operations {}: shutdown requested by op shutdown",
                source.name
            ),
        );
        self.quit.cancel();
        Ok(())
    }

    /// Counts and logs a rejected message.
    pub(super) fn reject(&self, source: &Source, peer: Peer, rejection: &Rejection) {
        self.stats
            .count_rejected(source.transport, rejection.reason);
        let who = format_args!("operations {}: a message is", source.name);
        sender_log::rejected(
            LogEvent::OperationRejected,
            About::peer(peer),
            who,
            rejection.reason,
            &rejection.message,
        );
    }
}
