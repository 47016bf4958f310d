//! A configuration document: values, each with the place it was written at.
//!
//! TOML text and environment variables both become the same tree, so that
//! everything after this can name `file:line:column` or the variable for any
//! value, however late its fault is found.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Diagnostic;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line and column, both from 1, in the named file.
    File {
        name: String,
        line: usize,
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
    pub value: Value,
    pub place: Place,
}

/// What was written, before anything is known of what it is for.
#[derive(Debug, Clone)]
pub enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Entry>),
    /// A date or time, which no setting takes.
    Date,
    /// The text of an environment variable, whose type the setting decides.
    Variable(String),
}

/// A key of a table: the value, and where the key itself stands.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: Place,
    pub node: Node,
}

impl Value {
    /// What sort of value it is, without the value: where a secret may be
    /// part of it.
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

    /// What the value is, in the words of an error message.
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

/// Reads TOML. Every syntax error is reported, and what could be read despite
/// them is returned, so that other faults can be told at the same time.
pub fn parse_toml(name: &str, text: &str, errors: &mut Vec<Diagnostic>) -> BTreeMap<String, Entry> {
    let lines = Lines::new(name, text);
    let (table, problems) = DeTable::parse_recoverable(text);
    let mut again: Option<Range<usize>> = None;
    for problem in problems {
        let span = problem.span().unwrap_or(0..0);
        // What a table has that stands again is no problem of its own.
        if problem.message() == DUPLICATE
            && again
                .as_ref()
                .is_some_and(|table| table.contains(&span.start))
        {
            continue;
        }
        let told = match problem.message() {
            DUPLICATE => {
                let entry = Entries(text).at(span.start);
                again = entry.table.then(|| entry.extent.clone());
                entry.told()
            }
            other => other.to_owned(),
        };
        errors.push(Diagnostic::new(lines.place(span), told));
    }
    entries(&lines, table.into_inner())
}

/// What the reader of TOML says of what stands twice.
const DUPLICATE: &str = "duplicate key";

/// Finds what stands twice, line by line.
struct Entries<'t>(&'t str);

/// A table or key that stands again.
struct Again<'t> {
    table: bool,
    name: &'t str,
    /// The line where it stands first, from 1.
    first: Option<usize>,
    /// Of a table, its header and what follows.
    extent: Range<usize>,
}

impl<'t> Entries<'t> {
    fn at(&self, at: usize) -> Again<'t> {
        let text = self.0;
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        let before = &text[..start];
        let header = |line: &str| line.trim_start().starts_with('[');
        let table = header(line);
        let name = name_in(line);
        // A key is looked for in its table alone.
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
        Again {
            table,
            name,
            first: first.map(|line| skipped + line + 1),
            extent: start..end,
        }
    }
}

impl Again<'_> {
    fn told(&self) -> String {
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

/// The name of a table or key on a line.
fn name_in(line: &str) -> &str {
    let line = line.trim();
    match line.strip_prefix('[') {
        Some(header) => header.split(']').next().unwrap_or_default().trim(),
        None => line.split('=').next().unwrap_or_default().trim(),
    }
}

/// Reads the text of an environment variable as a TOML value, for settings
/// that are lists or tables.
pub fn parse_inline(place: &Place, text: &str) -> Result<Value, String> {
    let value = DeValue::parse(text).map_err(|problem| problem.message().to_owned())?;
    // The place of everything inside is the variable: it has one line.
    let lines = Lines {
        fixed: Some(place.clone()),
        name: "",
        text,
    };
    Ok(node(&lines, value).value)
}

fn entries(lines: &Lines<'_>, table: DeTable<'_>) -> BTreeMap<String, Entry> {
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

/// Turns byte offsets into places.
struct Lines<'a> {
    fixed: Option<Place>,
    name: &'a str,
    text: &'a str,
}

impl<'a> Lines<'a> {
    fn new(name: &'a str, text: &'a str) -> Self {
        Lines {
            fixed: None,
            name,
            text,
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
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::File {
            name: self.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
