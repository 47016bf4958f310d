//! Properties of operations, for tests and `fuzz/`.

use std::collections::BTreeSet;
use std::str;
use std::sync::Arc;

use memchr::memmem;
use tokio_util::sync::CancellationToken;

use super::batcher::Batcher;
use super::config::{self, Config, MappingFile};
use super::extra_labels::ExtraLabels;
use super::framing::{Frame, Framer};
use super::mapping::Mapping;
use super::processor::{Processor, Source, Target};
use super::rejection::Rejection;
use super::sets::Sets;
use super::statsd::{TagStyles, TypedValue, parse, split_typed_values};
use crate::exposition::{Families, InputFormat, TextLimits, is_plain_name};
use crate::registry::{RegistryLimits, ValueChange};
use crate::settings::reader::defaults;
use crate::store::{Store, StoreLimits};
use crate::telemetry::Transport;

const MAX_MESSAGE: usize = 200;

/// Separates a mapping file from lines.
const SEPARATOR: &[u8] = b"\n====\n";

/// JSON messages and StatsD lines. The first byte is the size of the pieces in which they arrive.
///
/// The messages do not depend on the pieces. Every rejection has a message, and the exposed
/// text is valid afterwards.
pub fn operations(data: &[u8]) {
    let Some((piece, messages)) = data.split_first() else {
        return;
    };
    let whole = frames(messages, messages.len().max(1), MAX_MESSAGE);
    let pieces = frames(messages, usize::from(*piece).max(1), MAX_MESSAGE);
    assert_eq!(pieces, whole);
    apply(messages, &defaults(config::read));
}

/// One StatsD line.
///
/// Its typed values are parsed like separate lines. The family name is one that Prometheus
/// allows, and values are numbers.
pub fn statsd(line: &[u8]) {
    if line.contains(&b'\n') {
        return;
    }
    let values = split_typed_values(line).unwrap_or_default();
    assert_ne!(values.len(), 1, "a line of one value is not split");
    let styles = TagStyles::ALL;
    let lines = values
        .iter()
        .map(|value: &TypedValue<'_>| value.parse(styles));
    for line in lines.chain([parse(line, styles)]).flatten() {
        if let Ok(name) = line.family_name() {
            assert!(is_plain_name(&name), "{name:?}");
        }
        assert!(line.rate > 0.0 && line.rate <= 1.0);
        for change in line
            .reader(1.0)
            .iter()
            .flat_map(|reader| line.values().map(|it| reader.read(it)))
        {
            if let Ok(
                ValueChange::Add(value)
                | ValueChange::Set(value)
                | ValueChange::Observe { value, .. },
            ) = change
            {
                assert!(value.is_finite() || line.rate < 1.0);
            }
        }
        line.tags().count();
    }
    apply(line, &defaults(config::read));
}

/// A mapping file, followed by a line of `====` and StatsD lines to map.
///
/// A rejected file has errors. The exposed text is valid.
pub fn statsd_mapping(data: &[u8]) {
    let end = memmem::find(data, SEPARATOR);
    let (file, lines) = end.map_or((data, &[][..]), |end| {
        (&data[..end], &data[end + SEPARATOR.len()..])
    });
    let Ok(file) = str::from_utf8(file) else {
        return;
    };
    let mapping = match Mapping::parse(file) {
        Ok(mapping) => mapping,
        Err(problems) => {
            assert!(!problems.is_empty(), "{file}");
            return;
        }
    };
    let mut config = defaults(config::read);
    config.statsd_mapping = Some(MappingFile {
        path: "mapping.yml".into(),
        mapping: Arc::new(mapping),
    });
    apply(lines, &config);
}

/// The frames of bytes that arrive in pieces of `piece` bytes.
pub(super) fn frames(bytes: &[u8], piece: usize, max_message: usize) -> Vec<String> {
    let mut framer = Framer::new(max_message);
    let mut all = Vec::new();
    let mut buffer = Vec::new();
    let mut note = |frame: Frame<'_>| {
        all.push(match frame {
            Frame::Object(object) => format!("O {}", String::from_utf8_lossy(object)),
            Frame::Line(line) => format!("L {}", String::from_utf8_lossy(line)),
            Frame::Value(_) => unreachable!("the framer leaves lines whole"),
            Frame::Invalid(rejection) => format!("! {}", rejection.reason),
        });
    };
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        let used = framer.feed(&buffer, false, &mut note);
        buffer.drain(..used);
    }
    let used = framer.feed(&buffer, true, &mut note);
    assert_eq!(used, buffer.len());
    all
}

/// Applies messages twice, and checks the exposed text. Without known lines, it is the same.
fn apply(messages: &[u8], config: &Config) {
    let text = exposed(messages, config, true);
    if let Err(error) = Families::parse(&text, InputFormat::Text, &TextLimits::default()) {
        panic!("{error}\n{text}");
    }
    // Quantiles cover only the recent past, and the order of series in a family depends on
    // which were added together.
    let lasting = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.contains("quantile="));
        lines.map(str::to_owned).collect()
    };
    let long = exposed(messages, config, false);
    assert_eq!(lasting(&text), lasting(&long));
}

/// The exposed text after the messages were applied twice.
fn exposed(messages: &[u8], config: &Config, knows_lines: bool) -> String {
    let limits = StoreLimits {
        apps: 10,
        groups: 10,
        bytes: 1 << 20,
        registry: RegistryLimits {
            families: 20,
            series: 100,
            series_per_family: 50,
            label_bytes: 1000,
            bounds: 200,
        },
    };
    let store = Arc::new(Store::new(limits, false));
    let processor = Processor::new(
        config,
        true,
        (
            Target::Store(Arc::clone(&store)),
            Arc::new(Sets::of(config)),
        ),
        &Arc::new(ExtraLabels::new(config)),
        &Arc::default(),
        CancellationToken::new(),
    );
    let source = Source::new(config, Transport::Tcp, "socket", "name".to_owned());
    // While they are locked, batchers work without known lines.
    let _held = (!knows_lines).then(|| source.known_lines());
    for _ in 0..2 {
        let on_rejection = |_, rejection: &Rejection| {
            assert!(!rejection.message.is_empty() && rejection.message.len() < 500);
        };
        let mut batcher = Batcher::new(&processor, &source, messages.len(), 1, on_rejection);
        let mut framer = Framer::new(MAX_MESSAGE);
        framer.feed(messages, true, |frame| batcher.add(frame));
        batcher.end();
    }
    String::from_utf8(store.snapshot().text()).expect("the output is UTF-8")
}
