use super::config::Level;
use super::table::{Column, Layout, Shape, TableName};
use super::*;
use crate::outputs::sinks::{self, config::SinkSettings};
use crate::settings::document;
use crate::settings::reader::{Faults, Table};

/// The settings of a sink with these lines.
fn parse(text: &str) -> Result<Settings, Vec<String>> {
    let mut errors = Vec::new();
    let text = format!("[sinks.raw]\ntype = \"cql\"\n{text}");
    let entries = document::parse_toml("test", &text, &mut errors);
    assert!(errors.is_empty());
    let faults = Faults::default();
    let read = sinks::config::take(&mut Table::root(entries, &faults));
    let (errors, _) = faults.into_inner();
    if !errors.is_empty() {
        return Err(errors.iter().map(ToString::to_string).collect());
    }
    match read.0.into_values().next().unwrap().settings {
        SinkSettings::Cql(settings) => Ok(settings),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_have_defaults_and_hosts_have_a_port() {
    let settings = parse("hosts = [\"10.0.0.5\", \"db:19042\", \"[::1]\"]\n").unwrap();
    let hosts: Vec<String> = settings.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["10.0.0.5:9042", "db:19042", "[::1]:9042"]);
    assert_eq!(settings.table.to_string(), "tracking.metrics");
    assert_eq!(settings.consistency, Level::LocalQuorum);
    assert_eq!(
        (settings.create, settings.login, settings.tls),
        (None, None, None)
    );
    let settings = parse(
        "hosts = [\"db\"]\ntable = \"Ks.t_1\"\nconsistency = \"one\"\ncreate = true\n\
         layout = \"name\"\nreplication_factor = 3\n\
         login = { username = \"u\", password = \"secret\" }\n",
    )
    .unwrap();
    let create = settings.create.unwrap();
    assert_eq!(
        (create.layout, create.replication_factor),
        (Layout::Name, 3)
    );
    let shown = serde_json::to_string(&settings).unwrap();
    assert!(!shown.contains("secret") && !format!("{settings:?}").contains("secret"));
    assert!(
        shown.contains("\"create\":true,\"layout\":\"name\""),
        "{shown}"
    );
}

#[test]
fn wrong_settings_are_named() {
    let hosts = "hosts = [\"db\"]\n";
    for (text, expected) in [
        ("hosts = []\n", "hosts` must have 1 to 100 hosts"),
        ("hosts = [\":9042\"]\n", "hosts` must have hosts such as"),
        ("hosts = [\"a b\"]\n", "not \"a b\""),
        ("hosts = [\"a:b:c\"]\n", "hosts` must have hosts such as"),
        (
            "login = { username = \"u\" }\n",
            "login` needs a `password`",
        ),
        (
            "login = { password = \"p\" }\n",
            "login` needs a `username`",
        ),
        ("table = \"metrics\"\n", "table` must be \"keyspace.table\""),
        (
            "table = \"a.b-c\"\n",
            "letters, digits and \"_\", not \"a.b-c\"",
        ),
        ("consistency = \"most\"\n", "consistency` must be"),
        ("layout = \"name\"\n", "layout` is for a new table"),
        (
            "replication_factor = 2\n",
            "needs `sinks.raw.create` to be true",
        ),
        ("create = true\nreplication_factor = 0\n", "from 1 to 100"),
        (
            "datacenter = \"\"\n",
            "datacenter` must have 1 to 128 bytes",
        ),
        (
            "login = { username = \"u\", password = \"p\", password_file = \"/f\" }\n",
            "set one",
        ),
        ("timeout = 0\n", "timeout` must be longer than zero"),
        ("url = \"x\"\n", "url"),
    ] {
        let text = match text.starts_with("hosts") {
            true => text.to_owned(),
            false => format!("{hosts}{text}"),
        };
        let errors = parse(&text).unwrap_err();
        assert!(
            !text.starts_with("hosts = [\"a") || errors.len() == 1,
            "{errors:?}"
        );
        let errors = errors.join("\n");
        assert!(errors.contains(expected), "{text}: {errors}");
    }
    let errors = parse("").unwrap_err().join("\n");
    assert!(
        errors.contains("`sinks.raw.hosts` must have 1 to 100 hosts"),
        "{errors}"
    );
}

/// The columns of a table: their names, kinds and types.
fn columns(all: &[(&str, &str, &str)]) -> Vec<Column> {
    let column = |(name, kind, data_type): &(&str, &str, &str)| Column {
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        data_type: (*data_type).to_owned(),
    };
    all.iter().map(column).collect()
}

const LABELS: &str = "frozen<map<text, text>>";

#[test]
fn both_layouts_are_known_with_and_without_an_identity() {
    let name = TableName::default();
    let mut series = vec![
        ("name", "partition_key", "text"),
        ("labels", "partition_key", LABELS),
        ("timestamp", "clustering", "timestamp"),
        ("value", "regular", "double"),
    ];
    let shape = Shape::of(&name, &columns(&series)).unwrap();
    assert_eq!(
        shape.insert(&name),
        "INSERT INTO \"tracking\".\"metrics\" (name, labels, timestamp, value) VALUES (?, ?, ?, ?)"
    );
    assert_eq!((shape.layout, shape.has_id), (Layout::Series, false));
    series.push(("id", "clustering", "uuid"));
    let shape = Shape::of(&name, &columns(&series)).unwrap();
    assert!(
        shape
            .insert(&name)
            .ends_with("(name, labels, timestamp, value, id) VALUES (?, ?, ?, ?, ?)")
    );
    series[1] = ("labels", "regular", "map<text, text>");
    let shape = Shape::of(&name, &columns(&series)).unwrap();
    assert_eq!(
        (shape.layout, shape.has_labels_in_key, shape.has_id),
        (Layout::Name, false, true)
    );
    series[1] = ("labels", "clustering", LABELS);
    series[4] = ("id", "regular", "uuid");
    let shape = Shape::of(&name, &columns(&series)).unwrap();
    assert_eq!(
        (shape.layout, shape.has_labels_in_key, shape.has_id),
        (Layout::Name, true, false)
    );
}

#[test]
fn a_table_that_cannot_have_rows_is_explained() {
    let right = [
        ("name", "partition_key", "text"),
        ("labels", "partition_key", LABELS),
        ("timestamp", "clustering", "timestamp"),
        ("value", "regular", "double"),
        ("more", "regular", "int"),
    ];
    let with = |at: usize, column| {
        let mut changed = right;
        changed[at] = column;
        Shape::of(&TableName::default(), &columns(&changed)).unwrap_err()
    };
    for (at, column, expected) in [
        (
            3,
            ("value", "regular", "int"),
            "column value of tracking.metrics is of the type int; it must be double",
        ),
        (
            3,
            ("v", "regular", "double"),
            "tracking.metrics has no column value of the type double",
        ),
        (
            0,
            ("name", "regular", "text"),
            "partition key of tracking.metrics is (labels)",
        ),
        (
            2,
            ("timestamp", "regular", "timestamp"),
            "timestamp is not in the primary key",
        ),
        (
            4,
            ("host", "clustering", "text"),
            "has the column host, which raw values do not have",
        ),
        (
            4,
            ("id", "clustering", "timeuuid"),
            "column id of tracking.metrics is of the type timeuuid",
        ),
    ] {
        let problem = with(at, column);
        assert!(problem.contains(expected), "{problem}");
    }
    assert!(Shape::of(&TableName::default(), &columns(&right)).is_ok());
}

#[cfg(feature = "cql")]
mod rows {
    use std::collections::BTreeSet;

    use scylla::frame::response::result::{
        CollectionType, ColumnSpec, ColumnType, NativeType, TableSpec,
    };
    use scylla::serialize::row::{RowSerializationContext, SerializeRow};
    use scylla::serialize::writers::RowWriter;

    use super::super::rows::{MAX_ROWS, Planner, Request};
    use super::super::slots::MAX_SHIFT;
    use super::super::table::{self, Layout, Shape, TableName};
    use super::parse;
    use crate::event::{Content, Draft, EventKind, Stamp, StoredEvent};

    const SERIES: Shape = Shape {
        layout: Layout::Series,
        has_labels_in_key: true,
        has_id: false,
    };
    const NAME_AND_ID: Shape = Shape {
        layout: Layout::Name,
        has_labels_in_key: false,
        has_id: true,
    };

    fn event(name: &str, labels: &[(&str, &str)], id: u128, nanos: i64) -> StoredEvent {
        let content = Content {
            kind: EventKind::Raw,
            name,
            labels: labels.to_vec(),
            help: "",
            index: "",
            value: 1.5,
            timestamp: None,
            buckets: None,
        };
        Draft::new(&content).stamp(Stamp { id, arrived: nanos })
    }

    fn columns(has_id: bool) -> Vec<ColumnSpec<'static>> {
        let text = || Box::new(ColumnType::Native(NativeType::Text));
        let labels = ColumnType::Collection {
            frozen: true,
            typ: CollectionType::Map(text(), text()),
        };
        let mut types = vec![
            ("name", *text()),
            ("labels", labels),
            ("timestamp", ColumnType::Native(NativeType::Timestamp)),
            ("value", ColumnType::Native(NativeType::Double)),
        ];
        if has_id {
            types.push(("id", ColumnType::Native(NativeType::Uuid)));
        }
        let table = TableSpec::borrowed("tracking", "metrics");
        let spec = |(name, kind)| ColumnSpec::borrowed(name, kind, table.clone());
        types.into_iter().map(spec).collect()
    }

    /// A row as it is sent.
    fn written(row: &impl SerializeRow, has_id: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let columns = columns(has_id);
        let context = RowSerializationContext::from_specs(&columns);
        row.serialize(&context, &mut RowWriter::new(&mut bytes))
            .unwrap();
        bytes
    }

    #[test]
    fn a_row_is_encoded_as_cql_has_it() {
        let batch = [event("m", &[("a", "xyz"), ("b", "")], 0xab, -1)];
        let plan = Planner::default().plan(&batch, NAME_AND_ID);
        let mut expected = Vec::new();
        let mut cell = |bytes: &[u8]| {
            expected.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
            expected.extend_from_slice(bytes);
        };
        cell(b"m");
        cell(b"\0\0\0\x02\0\0\0\x01a\0\0\0\x03xyz\0\0\0\x01b\0\0\0\0");
        cell(&(-1_i64).to_be_bytes());
        cell(&1.5_f64.to_be_bytes());
        cell(&0xab_u128.to_be_bytes());
        let row = plan.requests[0].rows().next().unwrap();
        assert_eq!(written(&row, true), expected);
    }

    #[test]
    fn rows_of_a_partition_share_requests_and_none_is_lost() {
        let names = ["a", "b", "a"];
        let of = |number: usize| {
            let name = names[number % 3];
            let label = [("l", if number.is_multiple_of(2) { "x" } else { "y" })];
            event(name, &label, number as u128, 1_000_000 * number as i64)
        };
        let batch: Vec<StoredEvent> = (0..900).map(of).collect();
        for (shape, partitions, requests) in [(NAME_AND_ID, 2, 6 + 3), (SERIES, 4, 3 + 3 + 2 + 2)] {
            let plan = Planner::default().plan(&batch, shape);
            assert_eq!(plan.requests.len(), requests);
            let items = plan.requests.iter().flat_map(Request::items);
            let mut items: Vec<usize> = items.collect();
            items.sort_unstable();
            assert!(items.into_iter().eq(0..900));
            let mut seen = BTreeSet::new();
            for request in &plan.requests {
                assert!(request.items().len() <= MAX_ROWS);
                let of = |item: usize| {
                    let content = batch[item].decode().unwrap().content;
                    let labels = match shape.layout {
                        Layout::Series => content.labels,
                        Layout::Name => Vec::new(),
                    };
                    (content.name, labels)
                };
                let partitions: BTreeSet<_> = request.items().map(of).collect();
                assert_eq!(partitions.len(), 1);
                seen.extend(partitions);
                for (item, alone) in request.items().zip(request.split()) {
                    assert!(alone.items().eq([item]));
                }
                let rows = |request: &Request| -> Vec<_> {
                    let rows = request.rows();
                    rows.map(|row| written(&row, shape.has_id)).collect()
                };
                let split: Vec<_> = request.split().flat_map(|alone| rows(&alone)).collect();
                assert_eq!(split, rows(request));
            }
            assert_eq!(seen.len(), partitions);
        }
    }

    #[test]
    fn long_rows_have_requests_of_their_own() {
        let long = "x".repeat(40_000);
        let batch: Vec<StoredEvent> = (0..3).map(|id| event(&long, &[], id, 0)).collect();
        let plan = Planner::default().plan(&batch, NAME_AND_ID);
        assert_eq!(plan.requests.len(), 3);
    }

    #[test]
    fn values_of_one_millisecond_are_moved_only_in_tables_without_an_identity() {
        let time = |bytes: &[u8]| {
            // The name and the labels, with their lengths, come before it.
            let at = (4 + 1) + (4 + 4) + 4;
            i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        let batch: Vec<StoredEvent> = (0..3).map(|id| event("m", &[], id, 5_999_999)).collect();
        for (shape, expected) in [(SERIES, [5, 6, 7]), (NAME_AND_ID, [5, 5, 5])] {
            let mut planner = Planner::default();
            for _ in 0..2 {
                let plan = planner.plan(&batch, shape);
                let rows = plan.requests.iter().flat_map(Request::rows);
                let times: Vec<i64> = rows.map(|row| time(&written(&row, shape.has_id))).collect();
                assert_eq!(times, expected);
            }
        }
    }

    #[test]
    fn items_that_cannot_be_rows_are_set_apart() {
        let fitting = usize::try_from(MAX_SHIFT).unwrap() + 1;
        let of = |id: usize| event("m", &[], id as u128, 0);
        let mut batch: Vec<StoredEvent> = (0..fitting + 2).map(of).collect();
        batch[1] = StoredEvent::from_bytes(bytes::Bytes::from_static(b"damaged"));
        let plan = Planner::default().plan(&batch, SERIES);
        assert_eq!(
            (plan.unreadable, plan.crowded),
            (vec![1], vec![fitting + 1])
        );
        assert_eq!(
            plan.requests.iter().flat_map(Request::items).count(),
            fitting
        );
    }

    #[test]
    fn a_new_table_has_the_shape_of_its_layout() {
        let settings = parse("hosts = [\"db\"]\ncreate = true\nreplication_factor = 3\n").unwrap();
        let [keyspace, table] = table::create(&TableName::default(), settings.create.unwrap());
        assert!(keyspace.contains("\"tracking\"") && keyspace.contains("'replication_factor': 3"));
        assert!(
            table.contains("PRIMARY KEY ((name, labels), timestamp, id)"),
            "{table}"
        );
        let settings = parse("hosts = [\"db\"]\ncreate = true\nlayout = \"name\"\n").unwrap();
        let [_, table] = table::create(&TableName::default(), settings.create.unwrap());
        assert!(
            table.contains("PRIMARY KEY (name, timestamp, id)"),
            "{table}"
        );
    }
}
