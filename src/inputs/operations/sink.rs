//! Encodes operations as lines, and hands them to a sink instead of applying them here.
//!
//! The encoding is the one that [`message`](super::message) reads: a JSON object on each
//! line, with all labels that the operation got here.

use std::fmt;
use std::io;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use super::buckets;
use super::config::DEFAULT_BOUNDS;
use super::framing::Frame;
use super::rejection::Rejection;
use crate::clock::Now;
use crate::event::{Draft, EventKind, Stamper, StoredEvent};
use crate::exposition::{InputFormat, Kind, unescape, unescape_help};
use crate::reason::Reason;
use crate::registry::{Change, Update};

/// Accepts encoded operations: lines with their newlines, all or none. Never waits.
pub type PushLines = Box<dyn Fn(Bytes) -> Result<(), SinkRejection> + Send + Sync>;

/// Why a sink rejects operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkRejection {
    /// Its queue has no room for all of them.
    Full,
    /// It has stopped.
    Stopped,
}

/// Accepts events of one kind: the first ones, as many as fit, and returns their number. Never
/// waits.
pub type PushEvents = Box<dyn Fn(Vec<StoredEvent>) -> Result<usize, SinkRejection> + Send + Sync>;

/// The sinks of one kind of events.
struct EventSink {
    push: PushEvents,
    /// The settings that limit their queues, for messages.
    limits: String,
}

/// The sinks of events, by kind.
#[derive(Default)]
pub struct EventSinks {
    sinks: [Option<EventSink>; EventKind::ALL.len()],
    /// Gives each event its identity.
    stamper: Arc<Stamper>,
}

impl EventSinks {
    /// No sinks yet. Reloads replace this value, but all share one stamper.
    pub fn new(stamper: Arc<Stamper>) -> Self {
        EventSinks {
            sinks: Default::default(),
            stamper,
        }
    }

    /// Hands events of a kind to `push`. `limits` names the settings that limit it.
    pub fn add(&mut self, kind: EventKind, limits: String, push: PushEvents) {
        self.sinks[kind as usize] = Some(EventSink { push, limits });
    }

    /// Whether events of a kind go to a sink.
    pub(super) fn accepts(&self, kind: EventKind) -> bool {
        self.sinks[kind as usize].is_some()
    }

    /// Gives an arriving event its identity.
    pub(super) fn stamp(&self, draft: Draft, now: Now) -> StoredEvent {
        draft.stamp(self.stamper.next(now))
    }

    /// Hands over events of one kind. Returns how many of the first ones were taken, and why the
    /// others were not: the queue is full, or the sink has stopped.
    pub(super) fn push(
        &self,
        kind: EventKind,
        events: Vec<StoredEvent>,
    ) -> (usize, Result<(), Rejection>) {
        let all = events.len();
        let Some(sink) = &self.sinks[kind as usize] else {
            return (all, Ok(()));
        };
        let (taken, rejection) = match (sink.push)(events) {
            Ok(taken) if taken == all => return (all, Ok(())),
            Ok(taken) => (taken, SinkRejection::Full),
            Err(rejection) => (0, rejection),
        };
        let rejection = match rejection {
            SinkRejection::Full => {
                let (op, limits) = (kind.as_str(), &sink.limits);
                let problem = format!(
                    "the queue of the sink for op {op} is full ({limits}); try again later"
                );
                Rejection::new(Reason::NoBuffer, problem)
            }
            SinkRejection::Stopped => Rejection::new(
                Reason::Closed,
                "the proxy is stopping and takes no more events; try again later",
            ),
        };
        (taken, Err(rejection))
    }
}

impl fmt::Debug for EventSinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = EventKind::ALL.into_iter();
        let kinds = kinds.filter(|kind| self.accepts(*kind));
        f.debug_list().entries(kinds).finish()
    }
}

/// A sink that operations are forwarded to.
pub struct LineSink {
    push: PushLines,
    /// The setting that limits its queue.
    limit: String,
    /// The value of the label `instance` for operations that have none; empty
    /// for no label.
    instance: String,
    /// The buckets of the histograms that replace summaries in forwarding.
    summary_bounds: Arc<[f64]>,
}

impl LineSink {
    /// A sink that passes lines to `push`, whose queue has the setting `limit` as its limit.
    /// Operations without a label `instance` get the host name of this machine as its value.
    pub fn new(limit: String, push: PushLines) -> Self {
        LineSink {
            push,
            limit,
            instance: host_name(),
            summary_bounds: Arc::from(DEFAULT_BOUNDS),
        }
    }

    /// Appends an operation to `lines`. `hops` is how often it has been forwarded before.
    pub(super) fn encode(&self, update: &Update, hops: i64, lines: &mut Vec<u8>) {
        lines.extend_from_slice(b"{\"name\":");
        write_json_string(lines, &unescape(&update.family));
        lines.extend_from_slice(b",\"labels\":{");
        let mut has_instance = false;
        let mut comma = "";
        for label in update.labels.iter() {
            has_instance |= label.name == "instance";
            lines.extend_from_slice(comma.as_bytes());
            write_json_string(lines, &unescape(label.name));
            lines.push(b':');
            write_json_string(lines, &unescape(label.value));
            comma = ",";
        }
        if !has_instance && !self.instance.is_empty() {
            lines.extend_from_slice(comma.as_bytes());
            lines.extend_from_slice(b"\"instance\":");
            write_json_string(lines, &self.instance);
        }
        lines.push(b'}');
        let (op, value, times, bounds) = match &update.change {
            Change::Add(value) if update.kind == Kind::Counter => ("inc", *value, 1.0, None),
            Change::Add(value) => ("add", *value, 1.0, None),
            Change::Observe {
                value,
                times,
                buckets,
                ..
            } => ("obs", *value, *times, Some(buckets)),
            // Operations cannot express quantiles.
            Change::ObserveQuantiles { value, times, .. } => {
                ("obs", *value, *times, Some(&self.summary_bounds))
            }
            Change::Set(value) => ("set", *value, 1.0, None),
            _ => ("del", 0.0, 1.0, None),
        };
        put(lines, format_args!(",\"op\":\"{op}\""));
        if let Some(help) = &update.help {
            lines.extend_from_slice(b",\"help\":");
            let help = unescape_help(help, InputFormat::Text);
            write_json_string(lines, &help);
        }
        // The receiver has the same defaults.
        if let Some(bounds) =
            bounds.filter(|bounds| !Arc::ptr_eq(bounds, buckets::default_bounds()))
        {
            lines.extend_from_slice(b",\"bucket_custom\":[");
            let mut comma = "";
            for bound in bounds.iter() {
                put(lines, format_args!("{comma}{bound:?}"));
                comma = ",";
            }
            lines.push(b']');
        }
        // `{:?}` uses an exponent for long numbers.
        put(lines, format_args!(",\"value\":{value:?}"));
        if times != 1.0 {
            put(lines, format_args!(",\"times\":{times:?}"));
        }
        put(lines, format_args!(",\"hops\":{}}}\n", hops + 1));
    }

    /// Appends an event to `lines`. `hops` is how often it has been forwarded before.
    pub(super) fn encode_event(&self, draft: &Draft, hops: i64, lines: &mut Vec<u8>) {
        let Some(mut content) = draft.content() else {
            return;
        };
        let place = content
            .labels
            .binary_search_by(|(name, _)| (*name).cmp("instance"));
        if let Err(at) = place
            && !self.instance.is_empty()
        {
            content.labels.insert(at, ("instance", &self.instance));
        }
        content.write_json(None, lines);
        // Replace the closing brace.
        lines.pop();
        put(lines, format_args!(",\"hops\":{}}}\n", hops + 1));
    }

    /// Appends a StatsD line, or one of the typed values of such a line, to `lines`
    /// verbatim. Returns false for other messages.
    pub(super) fn copy(frame: &Frame<'_>, lines: &mut Vec<u8>) -> bool {
        match frame {
            Frame::Line(line) => lines.extend_from_slice(line),
            Frame::Value(value) => value.write(lines),
            Frame::Object(_) | Frame::Invalid(_) => return false,
        }
        lines.push(b'\n');
        true
    }

    /// Hands lines to the sink, all or none.
    ///
    /// # Errors
    ///
    /// The queue of the sink is full, or the sink has stopped.
    pub(super) fn push(&self, lines: Vec<u8>) -> Result<(), Rejection> {
        // The lines may wait for long, so they should not hold spare capacity.
        let lines = Bytes::from(lines.into_boxed_slice());
        (self.push)(lines).map_err(|rejection| match rejection {
            SinkRejection::Full => Rejection::new(
                Reason::NoBuffer,
                format!(
                    "the queue for forwarding is full ({}); try again later",
                    self.limit
                ),
            ),
            SinkRejection::Stopped => Rejection::new(
                Reason::Closed,
                "the proxy is stopping and forwards no more operations; try again later",
            ),
        })
    }
}

impl fmt::Debug for LineSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LineSink")
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// Writing to memory cannot fail.
fn put(line: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let _ = line.write_fmt(text);
}

fn write_json_string(line: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(line, text);
}

/// The host name of this machine; empty if it is not known.
#[expect(
    clippy::disallowed_methods,
    reason = "shells set it; /proc may not be mounted"
)]
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME").map_err(io::Error::other))
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::Config;
    use crate::inputs::operations::framing::Framer;
    use crate::inputs::operations::translate::{NameCache, Translator};

    fn sink() -> LineSink {
        LineSink {
            push: Box::new(|_| Ok(())),
            limit: String::new(),
            instance: "here".to_owned(),
            summary_bounds: Arc::from(DEFAULT_BOUNDS),
        }
    }

    /// Parses lines into the changes that they ask for, and how often they were forwarded.
    fn read(text: &[u8]) -> Vec<(Update, i64)> {
        let translator = Translator::new(&Config::default().operations, true);
        let mut all = Vec::new();
        Framer::new(1 << 16).feed(text, true, |frame| {
            let mut updates = Vec::new();
            let action = translator
                .translate(&frame, &[], &mut NameCache::default(), &mut updates)
                .unwrap();
            let hops = action.hops();
            all.extend(updates.into_iter().map(|update| (update, hops)));
        });
        all
    }

    #[test]
    fn an_encoded_operation_is_read_back_the_same() {
        let text = "{\"name\":\"m\",\"op\":\"inc\",\"value\":1e300,\"help\":\"a\\n\\\"b\\\"\\\\\",\
             \"labels\":{\"instance\":\"mine\",\"q\":\"\\\"\\\\\\n\u{e9}\"}}
            {\"name\":\"m\",\"op\":\"set\",\"value\":-1e-7,\"labels\":{\"instance\":\"i\"}}
            {\"name\":\"m\",\"op\":\"add\",\"labels\":{\"instance\":\"i\"}}
            {\"name\":\"m\",\"op\":\"del\",\"hops\":3,\"labels\":{\"instance\":\"i\"}}
            {\"name\":\"m\",\"op\":\"obs\",\"value\":2,\"labels\":{\"instance\":\"i\"}}
            t:5|ms|@0.3|#instance:i\n";
        let before = read(text.as_bytes());
        let mut lines = Vec::new();
        for (update, hops) in &before {
            sink().encode(update, *hops, &mut lines);
        }
        let after = read(&lines);
        assert_eq!(after.len(), before.len());
        for ((was, hops), (is, hops_now)) in before.iter().zip(&after) {
            assert_eq!((&was.family, &was.labels), (&is.family, &is.labels));
            assert_eq!((was.kind, &was.help), (is.kind, &is.help));
            assert_eq!((&was.change, hops + 1), (&is.change, *hops_now));
        }
    }

    #[test]
    fn the_instance_is_added_only_where_there_is_none() {
        let mut lines = Vec::new();
        for (update, hops) in read(b"a:1|c|#x:y\nb:1|c|#instance:far\nc:1|c") {
            sink().encode(&update, hops, &mut lines);
        }
        let labels: Vec<String> = read(&lines)
            .iter()
            .map(|(update, _)| update.labels.to_string())
            .collect();
        assert_eq!(
            labels,
            [
                "instance=\"here\",x=\"y\"",
                "instance=\"far\"",
                "instance=\"here\""
            ]
        );
    }

    #[test]
    fn a_full_sink_rejects_and_names_the_setting() {
        let pushed = Arc::new(Mutex::new(Vec::new()));
        let queue = Arc::clone(&pushed);
        let push = move |lines| {
            let mut queue = queue.lock().unwrap();
            if !queue.is_empty() {
                return Err(SinkRejection::Full);
            }
            queue.push(lines);
            Ok(())
        };
        let sink = LineSink::new("sinks.far.max_queue".to_owned(), Box::new(push));
        sink.push(b"1\n2\n".to_vec()).unwrap();
        let error = sink.push(b"3\n".to_vec()).unwrap_err();
        assert_eq!(error.reason, Reason::NoBuffer);
        assert!(error.message.contains("(sinks.far.max_queue)"), "{error}");
        assert_eq!(*pushed.lock().unwrap(), ["1\n2\n"]);
    }

    #[test]
    fn a_stopped_sink_says_that_the_proxy_stops() {
        let sink = LineSink::new(String::new(), Box::new(|_| Err(SinkRejection::Stopped)));
        let error = sink.push(b"1\n".to_vec()).unwrap_err();
        assert_eq!(error.reason, Reason::Closed);
        assert!(error.message.contains("stopping"), "{error}");
    }
}
