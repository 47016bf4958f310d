//! The table that rows are written to: its name, its primary key, and the statements
//! that make it and write to it.
//!
//! There are two layouts: the partition of a row is its series, or the name of its metric. A
//! table that the proxy creates also has a column `id` in its primary key, with the identity of
//! the event.

use std::fmt;

use serde::{Serialize, Serializer};

/// Limit on the length of the name of a keyspace or table, as in Cassandra.
const MAX_NAME: usize = 48;

/// The name of a table with its keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The keyspace.
    pub keyspace: String,
    /// The table.
    pub table: String,
}

impl Default for TableName {
    /// The table of metrics-server.
    fn default() -> Self {
        TableName {
            keyspace: "tracking".to_owned(),
            table: "metrics".to_owned(),
        }
    }
}

impl TableName {
    /// Reads `keyspace.table`.
    ///
    /// # Errors
    ///
    /// The required form, as the end of a sentence.
    pub fn parse(written: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            (1..=MAX_NAME).contains(&name.len()) && name.chars().all(plain)
        };
        match written.split_once('.') {
            Some((keyspace, table)) if is_name(keyspace) && is_name(table) => Ok(TableName {
                keyspace: keyspace.to_owned(),
                table: table.to_owned(),
            }),
            _ => Err(format!(
                "must be \"keyspace.table\", each with 1 to {MAX_NAME} letters, digits and \"_\", \
                 not {written:?}"
            )),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.keyspace, self.table)
    }
}

impl Serialize for TableName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// The partition of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// The name and the labels.
    Series,
    /// The name.
    Name,
}

/// The form of a new keyspace and a new table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Create {
    /// Whether they are created.
    pub create: bool,
    /// The primary key of the table.
    pub layout: Layout,
    /// Copies of each row in a datacenter.
    pub replication_factor: usize,
}

/// The statements that create a keyspace and a table.
#[cfg(feature = "cql")]
pub fn create(name: &TableName, create: Create) -> [String; 2] {
    let TableName { keyspace, table } = name;
    let partition = match create.layout {
        Layout::Series => "(name, labels)",
        Layout::Name => "name",
    };
    let factor = create.replication_factor;
    [
        format!(
            "CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = \
             {{'class': 'NetworkTopologyStrategy', 'replication_factor': {factor}}}"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS \"{keyspace}\".\"{table}\" (name text, \
             labels frozen<map<text, text>>, timestamp timestamp, id uuid, value double, \
             PRIMARY KEY ({partition}, timestamp, id)) \
             WITH CLUSTERING ORDER BY (timestamp DESC, id DESC) \
             AND compaction = {{'class': 'TimeWindowCompactionStrategy'}}"
        ),
    ]
}

/// A column of a table, as `system_schema.columns` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name.
    pub name: String,
    /// `partition_key`, `clustering`, `regular` or `static`.
    pub kind: String,
    /// The type, in CQL.
    pub data_type: String,
}

/// The columns of rows, and the types that they can have.
const COLUMNS: [(&str, &[&str]); 5] = [
    ("name", &["text", "ascii"]),
    ("labels", &["frozen<map<text, text>>", "map<text, text>"]),
    ("timestamp", &["timestamp"]),
    ("value", &["double"]),
    ("id", &["uuid"]),
];

/// How rows are written to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The partition of a row.
    pub layout: Layout,
    /// Whether labels are in the primary key.
    pub has_labels_in_key: bool,
    /// Whether the identity of an event is in the primary key.
    pub has_id: bool,
}

impl Shape {
    /// The shape of a table with these columns.
    ///
    /// # Errors
    ///
    /// Raw values cannot be written to it.
    pub fn of(name: &TableName, columns: &[Column]) -> Result<Self, String> {
        let of = |wanted: &str| columns.iter().find(|column| column.name == wanted);
        for (wanted, types) in COLUMNS {
            match of(wanted) {
                Some(column) if types.contains(&column.data_type.as_str()) => {}
                Some(column) => {
                    let (found, right) = (&column.data_type, types[0]);
                    return Err(format!(
                        "the column {wanted} of {name} is of the type {found}; it must be {right}"
                    ));
                }
                None if wanted == "id" => {}
                None => {
                    let right = types[0];
                    return Err(format!("{name} has no column {wanted} of the type {right}"));
                }
            }
        }
        let in_key =
            |column: &&Column| matches!(column.kind.as_str(), "partition_key" | "clustering");
        let known = |name: &str| COLUMNS.iter().any(|(known, _)| *known == name);
        let mut key = columns.iter().filter(in_key);
        if let Some(other) = key.find(|column| !known(&column.name)) {
            let other = &other.name;
            return Err(format!(
                "the primary key of {name} has the column {other}, which raw values do not have"
            ));
        }
        let is = |wanted: &str, kind: &str| of(wanted).is_some_and(|column| column.kind == kind);
        let partition: Vec<&str> = ["name", "labels", "timestamp", "value", "id"]
            .into_iter()
            .filter(|column| is(column, "partition_key"))
            .collect();
        let layout = match partition[..] {
            ["name", "labels"] => Layout::Series,
            ["name"] => Layout::Name,
            _ => {
                let found = partition.join(", ");
                return Err(format!(
                    "the partition key of {name} is ({found}); it must be (name, labels) or name"
                ));
            }
        };
        if !is("timestamp", "clustering") {
            return Err(format!(
                "timestamp is not in the primary key of {name}, so a series could have only one row"
            ));
        }
        Ok(Shape {
            layout,
            has_labels_in_key: layout == Layout::Series || is("labels", "clustering"),
            has_id: is("id", "clustering"),
        })
    }

    /// The statement that writes a row.
    pub fn insert(self, name: &TableName) -> String {
        let TableName { keyspace, table } = name;
        let (id, marker) = match self.has_id {
            true => (", id", ", ?"),
            false => ("", ""),
        };
        format!(
            "INSERT INTO \"{keyspace}\".\"{table}\" (name, labels, timestamp, value{id}) \
             VALUES (?, ?, ?, ?{marker})"
        )
    }
}
