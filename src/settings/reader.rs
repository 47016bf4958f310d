//! Takes settings out of a document by key and type, and collects all errors.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use super::document::{Entries, Entry, Node, Place, Value, parse_inline};
use super::error::Diagnostic;
use super::places::Places;

/// The minimum similarity, from 0 to 1, of an unknown key to a known one that is
/// suggested for it.
const SUGGESTION_THRESHOLD: f64 = 0.7;

/// Usual number of keys in a table of a list, for which memory is reserved.
const KEYS_OF_ITEMS: usize = 32;

/// The results of reading, shared by all tables of a document: errors, warnings, and
/// where each setting is written.
#[derive(Debug, Default)]
pub struct Faults {
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    places: RefCell<HashMap<String, Place>>,
    /// The places of the items of each list, of which there can be thousands.
    items: RefCell<HashMap<String, Vec<Place>>>,
}

impl Faults {
    /// Adds an error.
    pub fn add(&self, place: Place, message: impl Into<String>) {
        let fault = Diagnostic::new(place, message);
        self.errors.borrow_mut().push(fault);
    }

    /// Adds a warning.
    pub fn warn(&self, place: Place, message: impl Into<String>) {
        let warning = Diagnostic::new(place, message);
        self.warnings.borrow_mut().push(warning);
    }

    /// The number of errors so far.
    pub fn error_count(&self) -> usize {
        self.errors.borrow().len()
    }

    /// Where a valid setting is written, such as `push.listen`, or
    /// `operations.unix_sockets[0]` for an item of a list.
    pub fn place(&self, setting: &str) -> Option<Place> {
        let item = setting.strip_suffix(']').and_then(|it| it.rsplit_once('['));
        match item {
            Some((list, index)) => {
                let items = self.items.borrow();
                items.get(list)?.get(index.parse::<usize>().ok()?).cloned()
            }
            None => self.places.borrow().get(setting).cloned(),
        }
    }

    /// Where all valid settings are written.
    pub fn take_places(&self) -> Places {
        Places::new(self.places.take())
    }

    /// The errors and the warnings.
    pub fn into_inner(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }
}

/// The settings of an empty table: all defaults.
pub fn defaults<T>(read: impl FnOnce(Table<'_>) -> T) -> T {
    read(Table::root(Entries::default(), &Faults::default()))
}

/// An item of a list whose items are values or tables.
#[derive(Debug)]
pub enum Item<'f> {
    /// A value.
    Value(Node),
    /// A table, and where it begins.
    Table(Table<'f>, Place),
}

/// The items of a list, or the one value. An environment variable can have a list or a
/// table in TOML, or items separated by commas.
fn items_of(node: Node) -> Vec<Node> {
    let inline = |text: &str| text.trim_start().starts_with(['[', '{']);
    match &node.value {
        Value::List(items) => items.clone(),
        Value::Variable(text) if inline(text) => match parse_inline(&node.place, text) {
            Ok(Value::List(items)) => items,
            Ok(value) => vec![Node { value, ..node }],
            Err(_) => vec![node],
        },
        Value::Variable(text) if text.contains(',') => super::value::list(node).unwrap_or_default(),
        _ => vec![node],
    }
}

/// A table that is being read. Each `take` names a known key. Keys that are left at the
/// end are unknown, which is an error.
#[derive(Debug)]
pub struct Table<'f> {
    /// The dotted path with a final dot, for messages: `receiver.`
    path: String,
    /// Where the table is written, if it is one of those that can be repeated.
    place: Option<Place>,
    /// Whether it is in a list of tables. The settings of all these tables share their names, so
    /// their places are not noted.
    is_item: bool,
    entries: Entries,
    known: Vec<&'static str>,
    faults: &'f Faults,
}

impl<'f> Table<'f> {
    /// The table of a whole document.
    pub fn root(entries: Entries, faults: &'f Faults) -> Self {
        Table {
            path: String::new(),
            place: None,
            is_item: false,
            entries,
            known: Vec::new(),
            faults,
        }
    }

    /// The sub-table of this name; an empty one if it is not written.
    pub fn table(&mut self, key: &'static str) -> Table<'f> {
        let mut table = self.nested(key, Entries::default());
        match self.take_entry(key) {
            Some(Entry {
                node:
                    Node {
                        value: Value::Table(entries),
                        ..
                    },
                ..
            }) => table.entries = entries,
            Some(Entry { node, .. }) => self.faults.add(
                node.place,
                format!(
                    "`{}{key}` must be a table, not {}",
                    self.path,
                    node.value.sort()
                ),
            ),
            None => {}
        }
        table
    }

    /// The sub-table of this name and its place; `None` if it is not written. An environment
    /// variable can have a table in TOML, such as `{ a = 1 }`.
    pub fn optional_table(&mut self, key: &'static str) -> Option<(Table<'f>, Place)> {
        let node = self.take_entry(key)?.node;
        let place = node.place.clone();
        let value = match node.value {
            Value::Variable(text) if text.trim_start().starts_with('{') => {
                parse_inline(&place, &text)
            }
            value => Ok(value),
        };
        let problem = match value {
            Ok(Value::Table(entries)) => {
                self.found(format_args!("{}{key}", self.path), &place);
                return Some((self.nested(key, entries), place));
            }
            Ok(other) => format!("must be a table, not {}", other.sort()),
            Err(problem) => problem,
        };
        self.faults
            .add(place, format!("`{}{key}` {problem}", self.path));
        None
    }

    /// The name of this table: `push`, or `receiver.tls`.
    pub fn name(&self) -> &str {
        self.path.trim_end_matches('.')
    }

    /// A table with the given entries under `key`.
    fn nested(&self, key: &str, entries: Entries) -> Table<'f> {
        Table {
            path: format!("{}{key}.", self.path),
            place: None,
            is_item: self.is_item,
            entries,
            known: Vec::new(),
            faults: self.faults,
        }
    }

    /// The setting under `key`, read by `parse`. `default` if it is not written, or if it
    /// is wrong, so that reading continues.
    pub fn take<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Node) -> Result<T, String>,
    ) -> T {
        self.take_option(key, parse).unwrap_or(default)
    }

    /// The setting under `key`, if it is written and valid.
    pub fn take_option<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        let entry = self.take_entry(key)?;
        match parse(&entry.node) {
            Ok(value) => {
                self.found(format_args!("{}{key}", self.path), &entry.node.place);
                Some(value)
            }
            Err(problem) => {
                self.faults
                    .add(entry.node.place, format!("`{}{key}` {problem}", self.path));
                None
            }
        }
    }

    /// The setting under `key`, which must be written. `None` if it is missing or wrong,
    /// which is reported.
    pub fn take_required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        if self.entries.get(key).is_none() {
            self.known.push(key);
            if let Some(place) = self.place.clone() {
                self.fault(place, format!("`{}` needs a `{key}`", self.name()));
            }
            return None;
        }
        self.take_option(key, parse)
    }

    /// The tables in the table under `key`, each with its name and read by `read`, in the
    /// order of their names. An environment variable can have such a table in TOML.
    pub fn take_named_tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&str, Table<'f>) -> Option<T>,
    ) -> Vec<T> {
        let mut all = self.table(key);
        let mut tables = Vec::new();
        for (name, entry) in std::mem::take(&mut all.entries) {
            let place = entry.node.place;
            let value = match entry.node.value {
                Value::Variable(text) => parse_inline(&place, &text),
                value => Ok(value),
            };
            let problem = match value {
                Ok(Value::Table(entries)) => {
                    self.found(format_args!("{}{name}", all.path), &place);
                    let table = Table {
                        place: Some(place),
                        ..all.nested(&name, entries)
                    };
                    tables.extend(read(&name, table));
                    continue;
                }
                Ok(other) => format!("must be a table, not {}", other.sort()),
                Err(problem) => problem,
            };
            self.faults
                .add(place, format!("`{}{name}` {problem}", all.path));
        }
        tables
    }

    /// The list under `key`, each item read by `parse`. Wrong items are reported at their
    /// own places and left out.
    pub fn take_list<T>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(&Node) -> Result<T, String>,
    ) -> Vec<T> {
        self.take_each(key, |item| parse(&item))
    }

    /// Like [`Table::take_list`], for items whose values are kept.
    fn take_each<T>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(Node) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(Entry { node, .. }) = self.take_entry(key) else {
            return Vec::new();
        };
        let setting = format!("{}{key}", self.path);
        let place = node.place.clone();
        let items = match super::value::list(node) {
            Ok(items) => items,
            Err(problem) => {
                self.faults.add(place, format!("`{setting}` {problem}"));
                return Vec::new();
            }
        };
        let mut right = Vec::with_capacity(items.len());
        for item in items {
            let place = item.place.clone();
            match parse(item) {
                Ok(value) => {
                    self.found_item(&setting, &place);
                    right.push(value);
                }
                Err(problem) => self.faults.add(place, format!("`{setting}` {problem}")),
            }
        }
        self.found(format_args!("{setting}"), &place);
        right
    }

    /// The items under `key`, each read by `read`: those of a list, or the one value that
    /// is written instead. Wrong items are reported at their own places and left out.
    /// `None` if the key is not written, or no item is right.
    pub fn take_items<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(Item<'f>) -> Result<Option<T>, String>,
    ) -> Option<Vec<T>> {
        let node = self.take_entry(key)?.node;
        let setting = format!("{}{key}", self.path);
        let faults = self.faults;
        self.found(format_args!("{setting}"), &node.place);
        let items = items_of(node);
        let is_empty = items.is_empty();
        let mut right = Vec::new();
        for item in items {
            let place = item.place.clone();
            let read = match item.value {
                Value::Table(entries) => {
                    read(Item::Table(self.nested(key, entries), place.clone()))
                }
                _ => read(Item::Value(item)),
            };
            match read {
                Ok(Some(value)) => {
                    self.found_item(&setting, &place);
                    right.push(value);
                }
                Ok(None) => {}
                Err(problem) => faults.add(place, format!("`{setting}` {problem}")),
            }
        }
        (is_empty || !right.is_empty()).then_some(right)
    }

    /// The array of tables under `key`, each read by `read`.
    pub fn take_tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(Table<'f>, &Place) -> Option<T>,
    ) -> Vec<T> {
        let path = format!("{}{key}.", self.path);
        let faults = self.faults;
        self.take_each(key, |Node { value, place }| match value {
            Value::Table(entries) => {
                let table = Table {
                    path: path.clone(),
                    place: Some(place.clone()),
                    is_item: true,
                    entries,
                    known: Vec::with_capacity(KEYS_OF_ITEMS),
                    faults,
                };
                Ok(read(table, &place))
            }
            other => Err(format!("must be a list of tables, not {}", other.sort())),
        })
        .into_iter()
        .flatten()
        .collect()
    }

    /// The table under `key`, as names, texts and their places.
    pub fn take_texts(&mut self, key: &'static str) -> Vec<(String, String, Place)> {
        self.take_values(key, super::value::text)
    }

    /// The table under `key`, as names, values and their places.
    pub fn take_values<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Node) -> Result<T, String>,
    ) -> Vec<(String, T, Place)> {
        let mut table = self.table(key);
        let entries = std::mem::take(&mut table.entries);
        entries
            .into_iter()
            .filter_map(|(name, entry)| match parse(&entry.node) {
                Ok(value) => Some((name, value, entry.node.place)),
                Err(problem) => {
                    self.faults.add(
                        entry.node.place,
                        format!("`{}{key}.{name}` {problem}", self.path),
                    );
                    None
                }
            })
            .collect()
    }

    /// Where `key` is written, for errors that involve several settings. It must be called
    /// before the key is taken.
    pub fn place(&self, key: &str) -> Option<Place> {
        self.entries.get(key).map(|entry| entry.node.place.clone())
    }

    /// Whether all keys have been taken.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether `key` has a list without items. It must be called before the key is taken.
    pub fn is_empty_list(&self, key: &str) -> bool {
        let value = self.entries.get(key).map(|entry| &entry.node.value);
        matches!(value, Some(Value::List(items)) if items.is_empty())
    }

    /// Where the table is written, if it is one of those that can be repeated.
    pub fn own_place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Adds an error.
    pub fn fault(&self, place: Place, message: impl Into<String>) {
        self.faults.add(place, message);
    }

    /// The number of errors in the document so far.
    pub fn error_count(&self) -> usize {
        self.faults.error_count()
    }

    /// Adds a warning.
    pub fn warn(&self, place: Place, message: impl Into<String>) {
        self.faults.warn(place, message);
    }

    /// Reports the keys that are left as unknown, each with the most similar known key.
    pub fn finish(self) {
        for (key, entry) in self.entries.iter() {
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::jaro_winkler(key, known), known))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .filter(|(similarity, _)| *similarity >= SUGGESTION_THRESHOLD);
            let hint = match nearest {
                Some((_, known)) => format!("; did you mean `{}{known}`?", self.path),
                None => format!("; known keys: {}", self.known.join(", ")),
            };
            self.faults.add(
                entry.key.clone(),
                format!("unknown key `{}{key}`{hint}", self.path),
            );
        }
    }

    /// Notes where a valid setting is written.
    fn found(&self, setting: fmt::Arguments<'_>, place: &Place) {
        if !self.is_item {
            let mut places = self.faults.places.borrow_mut();
            places.insert(setting.to_string(), place.clone());
        }
    }

    /// Notes where the next valid item of a list is written.
    fn found_item(&self, list: &str, place: &Place) {
        if self.is_item {
            return;
        }
        let mut items = self.faults.items.borrow_mut();
        match items.get_mut(list) {
            Some(places) => places.push(place.clone()),
            None => drop(items.insert(list.to_owned(), vec![place.clone()])),
        }
    }

    fn take_entry(&mut self, key: &'static str) -> Option<Entry> {
        self.known.push(key);
        self.entries.remove(key)
    }
}
