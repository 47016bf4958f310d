//! What a message or a line asks for, as changes of living families.

use std::sync::Arc;
use std::time::Duration;

use super::labels::{Bounds, Pairs, label_text};
use super::message::{self, Message};
use super::statsd::{self, Gauge};
use super::{Fault, Found, config, elsewhere};
use crate::exposition::{Kind, LabelText, is_plain_name, write_help};
use crate::reason::Reason;
use crate::registry::{Change, Update};
use crate::telemetry::OWN_PREFIX;

/// Proxies that an operation may go through. Past that it goes round in a ring.
pub const MOST_HOPS: i64 = 8;

/// How operations are read: the settings, as they are needed.
#[derive(Debug)]
pub struct Reader {
    ttl: Option<Duration>,
    bounds: Bounds,
    statsd_bounds: Arc<[f64]>,
    /// Whether the proxy shows metrics of its own, whose names are taken then.
    own_metrics: bool,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked<'b> {
    /// Changes, which were added to the list. `hops` is how often they were
    /// sent on.
    Changes { hops: i64 },
    /// A value is to be in a set.
    Member(Member<'b>),
    /// The program is to stop.
    Shutdown,
}

/// A value of one of StatsD's sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Member<'b> {
    pub family: Arc<str>,
    pub labels: LabelText,
    pub value: &'b str,
}

/// Names of families that were read lately, all of them checked: mostly a
/// name comes again soon, and memory need not be taken for it anew.
#[derive(Debug, Default)]
pub struct Names([Option<Arc<str>>; 8]);

impl Names {
    /// Where that name is, if it is here.
    fn place(&mut self, name: &str) -> &mut Option<Arc<str>> {
        let last = name.bytes().last().unwrap_or_default();
        let place = (name.len() + usize::from(last)) % self.0.len();
        &mut self.0[place]
    }
}

impl Reader {
    pub fn new(config: &config::Config, own_metrics: bool) -> Self {
        Reader {
            ttl: Some(config.ttl).filter(|ttl| !ttl.is_zero()),
            bounds: Bounds {
                count: config.max_labels,
                length: config.max_label_length,
            },
            statsd_bounds: Arc::from(&*config.statsd_buckets.0),
            own_metrics,
        }
    }

    /// Reads what was found, and puts its changes into `to`. After an error,
    /// some may be there that are to be taken back.
    pub fn read<'b>(
        &self,
        found: &Found<'b>,
        added: &[(String, String)],
        names: &mut Names,
        to: &mut Vec<Update>,
    ) -> Result<Asked<'b>, Fault> {
        match found {
            Found::Object(object) => self.message(message::decode(object)?, added, names, to),
            Found::Line(line) => self.line(&statsd::parse(line)?, added, names, to),
            Found::Value(piece) => self.line(&piece.read()?, added, names, to),
            Found::Broken(fault) => Err(fault.clone()),
        }
    }

    fn message(
        &self,
        message: Message<'_>,
        added: &[(String, String)],
        names: &mut Names,
        to: &mut Vec<Update>,
    ) -> Result<Asked<'static>, Fault> {
        let (kind, change) = match &*message.op {
            "inc" => {
                if message.value < 0.0 {
                    let problem = format!("a counter cannot go down, by {}", message.value);
                    return Err(Fault::new(Reason::BadValue, problem));
                }
                (Kind::Counter, Change::Add(message.value))
            }
            "set" => (Kind::Gauge, Change::Set(message.value)),
            "add" => (Kind::Gauge, Change::Add(message.value)),
            "obs" => {
                let buckets = message
                    .buckets
                    .bounds()
                    .map_err(|problem| Fault::new(Reason::BadBuckets, problem))?;
                let observe = Change::Observe {
                    value: message.value,
                    times: if message.times == 0.0 {
                        1.0
                    } else {
                        message.times
                    },
                    buckets,
                };
                (Kind::Histogram, observe)
            }
            "del" => (Kind::Untyped, Change::Delete),
            "shutdown" => return Ok(Asked::Shutdown),
            other => return Err(elsewhere::refuse(other)),
        };
        if !(0..=MOST_HOPS).contains(&message.hops) {
            let problem =
                format!("sent on more than {MOST_HOPS} times: it goes round in a ring of proxies");
            return Err(Fault::new(Reason::BadOperation, problem));
        }
        let family = self.family(&message.name, names)?;
        let help = message.help.as_deref().map(|help| self.help(help));
        let labels = label_text(message.labels, added, message.hops > 0, self.bounds)?;
        if kind == Kind::Histogram && labels.iter().any(|label| label.name == "le") {
            let problem = "label \"le\" is the histogram's own";
            return Err(Fault::new(Reason::BadLabels, problem));
        }
        to.push(Update {
            family,
            kind,
            help: help.transpose()?,
            labels,
            ttl: self.ttl,
            change,
        });
        Ok(Asked::Changes { hops: message.hops })
    }

    fn line<'b>(
        &self,
        line: &statsd::Line<'b>,
        added: &[(String, String)],
        names: &mut Names,
        to: &mut Vec<Update>,
    ) -> Result<Asked<'b>, Fault> {
        let family = self.family(&line.name, names)?;
        let tags: Pairs<'_> = line.tags().collect();
        let labels = label_text(tags, added, false, self.bounds)?;
        let mut push = |kind, change| {
            to.push(Update {
                family: Arc::clone(&family),
                kind,
                help: None,
                labels: labels.clone(),
                ttl: self.ttl,
                change,
            });
        };
        match line.kind {
            statsd::Kind::Counter => {
                for value in line.numbers() {
                    let value = value? / line.rate;
                    if value < 0.0 {
                        let problem = format!("a counter cannot go down, by {value}");
                        return Err(Fault::new(Reason::BadValue, problem));
                    }
                    push(Kind::Counter, Change::Add(value));
                }
            }
            statsd::Kind::Gauge => {
                for value in line.gauges() {
                    let change = match value? {
                        Gauge::Set(value) => Change::Set(value),
                        Gauge::Add(value) => Change::Add(value),
                    };
                    push(Kind::Gauge, change);
                }
            }
            statsd::Kind::Timer | statsd::Kind::Histogram => {
                let unit = match line.kind {
                    statsd::Kind::Timer => 1000.0,
                    _ => 1.0,
                };
                for value in line.numbers() {
                    let observe = Change::Observe {
                        value: value? / unit,
                        times: 1.0 / line.rate,
                        buckets: Arc::clone(&self.statsd_bounds),
                    };
                    push(Kind::Histogram, observe);
                }
            }
            statsd::Kind::Set => {
                let value = line.member()?;
                return Ok(Asked::Member(Member {
                    family,
                    labels,
                    value,
                }));
            }
        }
        Ok(Asked::Changes { hops: 0 })
    }

    /// The change that shows how many values a set has.
    pub fn member_update(&self, member: &Member<'_>, count: f64) -> Update {
        Update {
            family: Arc::clone(&member.family),
            kind: Kind::Gauge,
            help: None,
            labels: member.labels.clone(),
            ttl: self.ttl,
            change: Change::Set(count),
        }
    }

    fn family(&self, name: &str, names: &mut Names) -> Result<Arc<str>, Fault> {
        let place = names.place(name);
        if let Some(known) = place
            && **known == *name
        {
            return Ok(Arc::clone(known));
        }
        if !is_plain_name(name) {
            let problem = if name.is_empty() {
                "the metric has no name".to_owned()
            } else {
                format!(
                    "{name:?} is no name of a metric: letters, digits, underscores and colons, no digit first"
                )
            };
            return Err(Fault::new(Reason::BadName, problem));
        }
        if name.len() > self.bounds.length {
            let limit = self.bounds.length;
            let problem = format!("a name may have {limit} bytes (operations.max_label_length)");
            return Err(Fault::new(Reason::BadName, problem));
        }
        if self.own_metrics && name.starts_with(OWN_PREFIX) {
            let problem =
                format!("{name} is a name of the proxy's own metrics (exporter.own_metrics)");
            return Err(Fault::new(Reason::ReservedName, problem));
        }
        Ok(Arc::clone(place.insert(Arc::from(name))))
    }

    fn help(&self, help: &str) -> Result<Arc<str>, Fault> {
        if help.len() > self.bounds.length {
            let limit = self.bounds.length;
            let problem = format!("a help may have {limit} bytes (operations.max_label_length)");
            return Err(Fault::new(Reason::TooLarge, problem));
        }
        let mut escaped = String::with_capacity(help.len());
        write_help(&mut escaped, help);
        Ok(Arc::from(escaped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::inputs::operations::framing::Framer;

    fn reader() -> Reader {
        Reader::new(&Config::default().operations, true)
    }

    /// What one message asks for.
    fn read(text: &str) -> Result<(Vec<Update>, Option<String>), Fault> {
        let reader = reader();
        let mut updates = Vec::new();
        let mut asked = None;
        Framer::new(1 << 20).feed(text.as_bytes(), true, |found| {
            let read = reader.read(&found, &[], &mut Names::default(), &mut updates);
            asked = Some(read.map(|asked| match asked {
                Asked::Changes { .. } => None,
                Asked::Member(member) => Some(member.value.to_owned()),
                Asked::Shutdown => Some("shutdown".to_owned()),
            }));
        });
        let other = asked.expect("something is found")?;
        Ok((updates, other))
    }

    #[track_caller]
    fn changes(text: &str) -> Vec<(Kind, Change)> {
        let (updates, other) = read(text).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        assert_eq!(other, None);
        updates
            .into_iter()
            .map(|update| (update.kind, update.change))
            .collect()
    }

    #[test]
    fn each_op_is_a_change() {
        let message = |op: &str| changes(&format!(r#"{{"name":"m","op":"{op}","value":2}}"#));
        assert_eq!(message("inc"), [(Kind::Counter, Change::Add(2.0))]);
        assert_eq!(message("set"), [(Kind::Gauge, Change::Set(2.0))]);
        assert_eq!(message("add"), [(Kind::Gauge, Change::Add(2.0))]);
        assert_eq!(message("del"), [(Kind::Untyped, Change::Delete)]);
        let [
            (
                Kind::Histogram,
                Change::Observe {
                    value,
                    times,
                    buckets,
                },
            ),
        ] = &message("obs")[..]
        else {
            panic!("an observation");
        };
        assert_eq!((*value, *times, buckets.len()), (2.0, 1.0, 20));
        assert_eq!(
            changes(r#"{"name":"m","op":"inc"}"#),
            [(Kind::Counter, Change::Add(0.0))]
        );
        assert_eq!(read(r#"{"op":"shutdown"}"#).unwrap().1.unwrap(), "shutdown");
    }

    #[test]
    fn each_line_is_some_changes() {
        assert_eq!(
            changes("a.b:1:2|c|@0.5"),
            [
                (Kind::Counter, Change::Add(2.0)),
                (Kind::Counter, Change::Add(4.0))
            ]
        );
        assert_eq!(
            changes("g:+1:5|g"),
            [
                (Kind::Gauge, Change::Add(1.0)),
                (Kind::Gauge, Change::Set(5.0))
            ]
        );
        for (line, expected) in [("t:250|ms|@0.1", (0.25, 10.0)), ("t:0.5|h", (0.5, 1.0))] {
            let [
                (
                    Kind::Histogram,
                    Change::Observe {
                        value,
                        times,
                        buckets,
                    },
                ),
            ] = &changes(line)[..]
            else {
                panic!("an observation");
            };
            assert_eq!((*value, *times), expected);
            assert_eq!(buckets.len(), 11);
        }
        assert_eq!(read("u:alice|s").unwrap().1.unwrap(), "alice");
    }

    #[test]
    fn labels_and_help_come_along() {
        let (updates, _) =
            read(r#"{"name":"m","op":"set","labels":{"b":"1","a":"\""},"help":"two\nlines \\"}"#)
                .unwrap();
        assert_eq!(updates[0].labels.as_str(), "a=\"\\\"\",b=\"1\"");
        assert_eq!(updates[0].help.as_deref(), Some(r"two\nlines \\"));
        assert_eq!(updates[0].ttl, None);
        let (updates, _) = read(r#"{"name":"m","op":"set","help":"a\rb\r"}"#).unwrap();
        assert_eq!(updates[0].help.as_deref(), Some("a\rb"));
        let (updates, _) = read("m:1|g|#b:1,a:2").unwrap();
        assert_eq!(updates[0].labels.as_str(), "a=\"2\",b=\"1\"");
    }

    /// Each of these ends metrics-server, or is lost in it without a word.
    #[test]
    fn what_makes_no_sense_is_refused() {
        let message = |rest: &str| format!("{{\"name\":\"m\",{rest}}}");
        for (text, reason) in [
            (message(r#""op":"inc","value":-1"#), Reason::BadValue),
            (
                message(r#""op":"obs","bucket_factor":0.5"#),
                Reason::BadBuckets,
            ),
            (
                message(r#""op":"obs","bucket_factor":1"#),
                Reason::BadBuckets,
            ),
            (message(r#""op":"obs","buckets":-1"#), Reason::BadBuckets),
            (
                message(r#""op":"obs","bucket_min":2,"bucket_max":1"#),
                Reason::BadBuckets,
            ),
            (
                message(r#""op":"obs","bucket_width":-1"#),
                Reason::BadBuckets,
            ),
            (
                message(r#""op":"obs","bucket_custom":[2,1]"#),
                Reason::BadBuckets,
            ),
            (
                message(r#""op":"obs","bucket_custom":[1,1]"#),
                Reason::BadBuckets,
            ),
            (
                message(r#""op":"obs","labels":{"le":"1"}"#),
                Reason::BadLabels,
            ),
            (message(r#""op":"index""#), Reason::Unsupported),
            (message(r#""op":"raw""#), Reason::Unsupported),
            (message(r#""op":"event""#), Reason::Unsupported),
            (message(r#""op":"set","value":"1""#), Reason::Malformed),
            (message(r#""op":"""#), Reason::BadOperation),
            (message(r#""op":"multiply""#), Reason::BadOperation),
            (message(r#""op":"inc","hops":9"#), Reason::BadOperation),
            (message(r#""op":"inc","hops":-1"#), Reason::BadOperation),
            (r#"{"op":"inc"}"#.to_owned(), Reason::BadName),
            (r#"{"name":"a b","op":"inc"}"#.to_owned(), Reason::BadName),
            (r#"{"name":"9","op":"inc"}"#.to_owned(), Reason::BadName),
            (
                r#"{"name":"exporter_proxy_x","op":"inc"}"#.to_owned(),
                Reason::ReservedName,
            ),
            ("{}".to_owned(), Reason::BadOperation),
            ("m:-1|c".to_owned(), Reason::BadValue),
            ("m:1|c|@0".to_owned(), Reason::BadValue),
            ("m:1|c|#a b:c,__x:1".to_owned(), Reason::BadLabels),
        ] {
            let fault = read(&text).unwrap_err();
            assert_eq!(fault.reason, reason, "{text}: {fault}");
        }
        // metrics-server writes into a map that is not there.
        assert!(read(&message(r#""op":"inc","labels":null"#)).is_ok());
    }
}
