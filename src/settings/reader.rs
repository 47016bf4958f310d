//! Takes settings out of a document, by key and type, and collects what is
//! wrong instead of stopping at it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::document::{Entry, Node, Place, Value};
use super::error::Diagnostic;

/// How far a mistyped key may be from a known one to be suggested for it:
/// a similarity from 0 to 1.
const SUGGESTION_THRESHOLD: f64 = 0.7;

/// What reading finds, shared by all tables of a document: faults, warnings,
/// and where each setting is written.
#[derive(Debug, Default)]
pub struct Faults {
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    places: RefCell<BTreeMap<String, Place>>,
}

impl Faults {
    pub fn add(&self, place: Place, message: impl Into<String>) {
        let fault = Diagnostic::new(place, message);
        self.errors.borrow_mut().push(fault);
    }

    /// Adds what does not stop the program.
    pub fn warn(&self, place: Place, message: impl Into<String>) {
        let warning = Diagnostic::new(place, message);
        self.warnings.borrow_mut().push(warning);
    }

    /// Where a setting is written, if it is and is right: `push.listen`, or
    /// `operations.unix_sockets[0]` for an item of a list.
    pub fn place(&self, setting: &str) -> Option<Place> {
        self.places.borrow().get(setting).cloned()
    }

    fn found(&self, setting: String, place: &Place) {
        self.places.borrow_mut().insert(setting, place.clone());
    }

    /// Errors and warnings.
    pub fn into_inner(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }
}

/// The settings that an empty table gives. Every setting has a default.
pub fn defaults<T>(read: impl FnOnce(Table<'_>) -> T) -> T {
    read(Table::root(BTreeMap::new(), &Faults::default()))
}

/// A table being read. Each `take` names a key that is known; what is left at
/// the end is not, and is refused.
#[derive(Debug)]
pub struct Table<'f> {
    /// Dotted path with a trailing dot, for messages: `receiver.`
    path: String,
    entries: BTreeMap<String, Entry>,
    known: Vec<&'static str>,
    faults: &'f Faults,
}

impl<'f> Table<'f> {
    pub fn root(entries: BTreeMap<String, Entry>, faults: &'f Faults) -> Self {
        Table {
            path: String::new(),
            entries,
            known: Vec::new(),
            faults,
        }
    }

    /// The sub-table of that name; an empty one where it is not written.
    pub fn table(&mut self, key: &'static str) -> Table<'f> {
        let mut table = Table {
            path: format!("{}{key}.", self.path),
            entries: BTreeMap::new(),
            known: Vec::new(),
            faults: self.faults,
        };
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

    /// The setting under `key`, read by `parse`; `default` where it is not
    /// written, and, so that reading can go on, where it is wrong.
    pub fn take<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Node) -> Result<T, String>,
    ) -> T {
        self.take_option(key, parse).unwrap_or(default)
    }

    /// The setting under `key`, if it is written and right.
    pub fn take_option<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Node) -> Result<T, String>,
    ) -> Option<T> {
        let entry = self.take_entry(key)?;
        match parse(&entry.node) {
            Ok(value) => {
                let setting = format!("{}{key}", self.path);
                self.faults.found(setting, &entry.node.place);
                Some(value)
            }
            Err(problem) => {
                self.faults
                    .add(entry.node.place, format!("`{}{key}` {problem}", self.path));
                None
            }
        }
    }

    /// The list under `key`, each item read by `parse`. Wrong items are
    /// reported, each at its own place, and left out.
    pub fn take_list<T>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(&Node) -> Result<T, String>,
    ) -> Vec<T> {
        let path = self.path.clone();
        let faults = self.faults;
        self.take(key, Vec::new(), |node| {
            let mut right = Vec::new();
            for item in super::value::list(node)? {
                match parse(&item) {
                    Ok(value) => {
                        faults.found(format!("{path}{key}[{}]", right.len()), &item.place);
                        right.push(value);
                    }
                    Err(problem) => faults.add(item.place, format!("`{path}{key}` {problem}")),
                }
            }
            Ok(right)
        })
    }

    /// The array of tables under `key`, each read by `read`.
    pub fn take_tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(Table<'f>, &Place) -> Option<T>,
    ) -> Vec<T> {
        let path = format!("{}{key}.", self.path);
        let faults = self.faults;
        self.take_list(key, |node| match &node.value {
            Value::Table(entries) => Ok(read(
                Table {
                    path: path.clone(),
                    entries: entries.clone(),
                    known: Vec::new(),
                    faults,
                },
                &node.place,
            )),
            other => Err(format!("must be a list of tables, not {}", other.sort())),
        })
        .into_iter()
        .flatten()
        .collect()
    }

    /// The table under `key` as names and texts.
    pub fn take_texts(&mut self, key: &'static str) -> Vec<(String, String, Place)> {
        let mut table = self.table(key);
        let entries = std::mem::take(&mut table.entries);
        entries
            .into_iter()
            .filter_map(|(name, entry)| match super::value::text(&entry.node) {
                Ok(text) => Some((name, text, entry.node.place)),
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

    /// Where `key` is written, for faults that involve several settings.
    /// Ask before taking it.
    pub fn place(&self, key: &str) -> Option<Place> {
        self.entries.get(key).map(|entry| entry.node.place.clone())
    }

    pub fn fault(&self, place: Place, message: impl Into<String>) {
        self.faults.add(place, message);
    }

    /// Reports what does not stop the program.
    pub fn warn(&self, place: Place, message: impl Into<String>) {
        self.faults.warn(place, message);
    }

    /// Refuses what is left. The nearest known key is named where one is near.
    pub fn finish(self) {
        for (key, entry) in &self.entries {
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

    fn take_entry(&mut self, key: &'static str) -> Option<Entry> {
        self.known.push(key);
        self.entries.remove(key)
    }
}
