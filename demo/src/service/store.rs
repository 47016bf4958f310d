//! The persons, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// The limit on persons.
pub const MAX_PERSONS: usize = 100_000;

/// The number of persons in one list.
pub const PAGE: usize = 20;

/// A person as clients see it. Empty fields are left out, except the names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// The number of the person in decimal; no number is used twice.
    pub id: String,
    pub first_name: String,
    pub last_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// RFC 3339, in seconds, UTC.
    pub created_at: String,
    /// Like `created_at`.
    pub updated_at: String,
}

/// A person as a client sends it. Other keys, such as an id, are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Draft {
    pub first_name: String,
    pub last_name: String,
    pub email: String,
    pub address: String,
}

/// The store has [`MAX_PERSONS`] persons.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {MAX_PERSONS} persons is reached")]
pub struct Full;

/// All persons. Each method is one atomic step.
#[derive(Debug, Default)]
pub struct Store(Mutex<Persons>);

#[derive(Debug, Default)]
struct Persons {
    by_id: BTreeMap<u64, Person>,
    next_id: u64,
}

impl Store {
    /// Up to [`PAGE`] persons with an id of `start` or more, in the order of their ids.
    pub fn list(&self, start: u64) -> Vec<Person> {
        let persons = self.lock();
        let page = persons.by_id.range(start..).take(PAGE);
        page.map(|(_, person)| person.clone()).collect()
    }

    /// The person with the id.
    pub fn get(&self, id: &str) -> Option<Person> {
        self.lock().by_id.get(&number(id)?).cloned()
    }

    /// Adds a person, created at `now`.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub fn create(&self, draft: Draft, now: String) -> Result<Person, Full> {
        let mut persons = self.lock();
        if persons.by_id.len() >= MAX_PERSONS {
            return Err(Full);
        }
        let id = persons.next_id;
        persons.next_id += 1;
        let person = Person {
            id: id.to_string(),
            first_name: draft.first_name,
            last_name: draft.last_name,
            email: draft.email,
            address: draft.address,
            created_at: now.clone(),
            updated_at: now,
        };
        persons.by_id.insert(id, person.clone());
        Ok(person)
    }

    /// Replaces the fields that are not empty in `draft`; `None` if there is no such person.
    pub fn update(&self, id: &str, draft: Draft, now: String) -> Option<Person> {
        let mut persons = self.lock();
        let person = persons.by_id.get_mut(&number(id)?)?;
        for (field, given) in [
            (&mut person.first_name, draft.first_name),
            (&mut person.last_name, draft.last_name),
            (&mut person.email, draft.email),
            (&mut person.address, draft.address),
        ] {
            if !given.is_empty() {
                *field = given;
            }
        }
        person.updated_at = now;
        Some(person.clone())
    }

    /// Removes a person, and returns whether it existed.
    pub fn delete(&self, id: &str) -> bool {
        number(id).is_some_and(|id| self.lock().by_id.remove(&id).is_some())
    }

    /// The number of persons.
    pub fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    /// The state. No method leaves it half changed, so a panic in one does no harm.
    fn lock(&self) -> MutexGuard<'_, Persons> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number in an id; `None` for any other spelling, such as `007`.
fn number(id: &str) -> Option<u64> {
    let number: u64 = id.parse().ok()?;
    (number.to_string() == id).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(first_name: &str, last_name: &str) -> Draft {
        Draft {
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            ..Draft::default()
        }
    }

    #[test]
    fn ids_count_from_zero_and_are_never_used_twice() {
        let store = Store::default();
        let create = || store.create(draft("A", "B"), "t".to_owned()).unwrap().id;
        assert_eq!((create(), create()), ("0".to_owned(), "1".to_owned()));
        assert!(store.delete("1"));
        assert!(!store.delete("1"));
        assert_eq!(create(), "2");
        assert_eq!(store.len(), 2);
        for wrong in ["", "00", "+0", "-1", "x", "1", "99999999999999999999"] {
            assert_eq!(store.get(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_update_replaces_what_is_not_empty() {
        let store = Store::default();
        store.create(draft("A", "B"), "t1".to_owned()).unwrap();
        let change = Draft {
            last_name: "C".to_owned(),
            address: "here".to_owned(),
            ..Draft::default()
        };
        let person = store.update("0", change.clone(), "t2".to_owned()).unwrap();
        assert_eq!(
            serde_json::to_string(&person).unwrap(),
            r#"{"id":"0","first_name":"A","last_name":"C","address":"here","created_at":"t1","updated_at":"t2"}"#
        );
        assert_eq!(store.get("0"), Some(person));
        assert_eq!(store.update("1", change, "t3".to_owned()), None);
    }

    #[test]
    fn lists_begin_at_an_id_and_have_twenty_persons_at_most() {
        let store = Store::default();
        assert!(store.list(0).is_empty());
        for _ in 0..50 {
            store.create(draft("A", "B"), "t".to_owned()).unwrap();
        }
        store.delete("41");
        let ids = |start| -> Vec<String> {
            let list = store.list(start);
            list.into_iter().map(|person| person.id).collect()
        };
        assert_eq!(ids(0), (0..20).map(|id| id.to_string()).collect::<Vec<_>>());
        assert_eq!(ids(40)[..2], ["40", "42"]);
        assert!(ids(50).is_empty());
    }

    #[test]
    fn the_store_takes_100000_persons() {
        let store = Store::default();
        for _ in 0..MAX_PERSONS {
            store.create(draft("A", "B"), String::new()).unwrap();
        }
        assert_eq!(store.create(draft("A", "B"), String::new()), Err(Full));
        assert!(store.delete("7"));
        assert!(store.create(draft("A", "B"), String::new()).is_ok());
    }
}
