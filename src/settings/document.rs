//! A configuration document: values with the places where they are written.
//!
//! TOML text and environment variables become the same tree. So errors in a value can
//! always name `file:line:column` or the variable, however late they are found.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use memchr::memchr_iter;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Diagnostic;

/// Where a value is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line and column, both from 1, in the named file.
    File {
        /// The path of the file, which all its places share.
        name: Arc<str>,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Place::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it is written.
    pub place: Place,
}

/// A value as it is written, before its setting is known.
#[derive(Debug, Clone)]
pub enum Value {
    /// A string.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// An array.
    List(Vec<Node>),
    /// A table.
    Table(Entries),
    /// A date or time. No setting has this type.
    Date,
    /// The text of an environment variable. Its type depends on the setting.
    Variable(String),
}

/// A key of a table, with its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where the key is written.
    pub key: Place,
    /// The value.
    pub node: Node,
}

/// Entries in the order of their keys. Most tables have a few, and a document can have
/// thousands of tables: in a list they take a sixth of the memory of a map.
#[derive(Debug, Clone, Default)]
pub struct Entries(Vec<(String, Entry)>);

impl Entries {
    /// The entry of a key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.find(key).ok().map(|index| &self.0[index].1)
    }

    /// The entry of a key. If it does not exist, `entry` creates it.
    pub fn get_or_insert_with(&mut self, key: &str, entry: impl FnOnce() -> Entry) -> &mut Entry {
        let index = self.find(key).unwrap_or_else(|index| {
            self.0.insert(index, (key.to_owned(), entry()));
            index
        });
        &mut self.0[index].1
    }

    /// Sets the entry of a key.
    pub fn insert(&mut self, key: String, entry: Entry) {
        match self.find(&key) {
            Ok(index) => self.0[index].1 = entry,
            Err(index) => self.0.insert(index, (key, entry)),
        }
    }

    /// Removes the entry of a key and returns it.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        let index = self.find(key).ok()?;
        Some(self.0.remove(index).1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All keys and entries.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.0.iter().map(|(key, entry)| (key, entry))
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|(other, _)| other.as_str().cmp(key))
    }
}

impl IntoIterator for Entries {
    type Item = (String, Entry);
    type IntoIter = std::vec::IntoIter<(String, Entry)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Keys must be unique.
impl FromIterator<(String, Entry)> for Entries {
    fn from_iter<I: IntoIterator<Item = (String, Entry)>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Entries(entries)
    }
}

impl Value {
    /// The type of the value, for messages about values that can contain secrets.
    pub fn sort(&self) -> &'static str {
        match self {
            Value::Text(_) | Value::Variable(_) => "text",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Date => "a date or time",
        }
    }

    /// The type and the value, for error messages.
    pub fn describe(&self) -> String {
        match self {
            Value::Text(text) => format!("the text {text:?}"),
            Value::Integer(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number}"),
            Value::Boolean(value) => format!("{value}"),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
            Value::Date => "a date or time".to_owned(),
            Value::Variable(text) => format!("{text:?}"),
        }
    }
}

/// Reads TOML. All syntax errors are added to `errors`. Returns what could be read despite
/// them, so that other errors are reported at the same time.
pub fn parse_toml(name: &str, text: &str, errors: &mut Vec<Diagnostic>) -> Entries {
    let lines = Lines::new(name, text);
    let (table, problems) = DeTable::parse_recoverable(text);
    let mut again: Option<Range<usize>> = None;
    for problem in problems {
        let span = problem.span().unwrap_or(0..0);
        // Keys inside a duplicate table are not reported again.
        if problem.message() == DUPLICATE
            && again
                .as_ref()
                .is_some_and(|table| table.contains(&span.start))
        {
            continue;
        }
        let message = match problem.message() {
            DUPLICATE => {
                let entry = Definitions(text).at(span.start);
                again = entry.table.then(|| entry.extent.clone());
                entry.message()
            }
            other => other.to_owned(),
        };
        errors.push(Diagnostic::new(lines.place(span), message));
    }
    entries(&lines, table.into_inner())
}

/// The message of the TOML parser for a duplicate key or table.
const DUPLICATE: &str = "duplicate key";

/// Finds the first definition of a duplicate, line by line.
struct Definitions<'t>(&'t str);

/// A duplicate table or key.
struct Duplicate<'t> {
    table: bool,
    name: &'t str,
    /// The line of its first definition, from 1.
    first: Option<usize>,
    /// The text from the duplicate to the end of its table.
    extent: Range<usize>,
}

impl<'t> Definitions<'t> {
    fn at(&self, at: usize) -> Duplicate<'t> {
        let text = self.0;
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        let before = &text[..start];
        let header = |line: &str| line.trim_start().starts_with('[');
        let table = header(line);
        let name = name_in(line);
        // Keys are compared only within their table.
        let from = match table {
            true => 0,
            false => before.rfind("\n[").map_or(0, |newline| newline + 1),
        };
        let skipped = text[..from].matches('\n').count();
        let mut lines = before[from..].lines();
        let first = lines.position(|other| header(other) == table && name_in(other) == name);
        let end = text[at..]
            .find("\n[")
            .map_or(text.len(), |newline| at + newline + 1);
        Duplicate {
            table,
            name,
            first: first.map(|line| skipped + line + 1),
            extent: start..end,
        }
    }
}

impl Duplicate<'_> {
    fn message(&self) -> String {
        let (sort, what) = match self.table {
            true => ("table", "merge the two"),
            false => ("key", "remove one"),
        };
        let name = self.name;
        match self.first {
            Some(line) => {
                format!("duplicate {sort} `{name}`, first defined on line {line}; {what}")
            }
            None => format!("duplicate {sort} `{name}`; {what}"),
        }
    }
}

/// The name of the table or key that a line defines.
fn name_in(line: &str) -> &str {
    let line = line.trim();
    match line.strip_prefix('[') {
        Some(header) => header.split(']').next().unwrap_or_default().trim(),
        None => line.split('=').next().unwrap_or_default().trim(),
    }
}

/// Reads the text of an environment variable as a TOML value, for settings that are lists
/// or tables.
///
/// # Errors
///
/// The text is not a TOML value.
pub fn parse_inline(place: &Place, text: &str) -> Result<Value, String> {
    let value = DeValue::parse(text).map_err(|problem| problem.message().to_owned())?;
    // The place of every value in it is the variable.
    let lines = Lines {
        starts: Vec::new(),
        fixed: Some(place.clone()),
        name: Arc::from(""),
        text,
    };
    Ok(node(&lines, value).value)
}

fn entries(lines: &Lines<'_>, table: DeTable<'_>) -> Entries {
    table
        .into_iter()
        .map(|(key, value)| {
            let place = lines.place(key.span());
            let entry = Entry {
                key: place,
                node: node(lines, value),
            };
            (key.into_inner().into_owned(), entry)
        })
        .collect()
}

fn node(lines: &Lines<'_>, value: Spanned<DeValue<'_>>) -> Node {
    let place = lines.place(value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Text(number.to_string()), Value::Integer),
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map_or_else(|_| Value::Text(number.to_string()), Value::Float),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => {
            Value::List(items.into_iter().map(|item| node(lines, item)).collect())
        }
        DeValue::Table(table) => Value::Table(entries(lines, table)),
    };
    Node { value, place }
}

/// Converts byte offsets into places.
struct Lines<'a> {
    fixed: Option<Place>,
    name: Arc<str>,
    text: &'a str,
    /// Where each line but the first begins.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(name: &str, text: &'a str) -> Self {
        Lines {
            fixed: None,
            name: Arc::from(name),
            text,
            starts: memchr_iter(b'\n', text.as_bytes())
                .map(|at| at + 1)
                .collect(),
        }
    }

    fn place(&self, span: Range<usize>) -> Place {
        if let Some(place) = &self.fixed {
            return place.clone();
        }
        let mut at = span.start.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= at);
        let line_start = line.checked_sub(1).map_or(0, |before| self.starts[before]);
        Place::File {
            name: Arc::clone(&self.name),
            line: line + 1,
            column: self.text[line_start..at].chars().count() + 1,
        }
    }
}
