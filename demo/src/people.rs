//! The lists from which persons are made, in the service and in its load.

use fastrand::Rng;
use serde::Serialize;

const FIRST_NAMES: [&str; 12] = [
    "Ada",
    "Barbara",
    "Dennis",
    "Edsger",
    "Frances",
    "Grace",
    "Ivan",
    "John",
    "Katherine",
    "Linus",
    "Margaret",
    "Radia",
];

const LAST_NAMES: [&str; 12] = [
    "Allen",
    "Dijkstra",
    "Hamilton",
    "Hopper",
    "Johnson",
    "Liskov",
    "Lovelace",
    "McCarthy",
    "Perlman",
    "Ritchie",
    "Sutherland",
    "Torvalds",
];

const MAIL_HOSTS: [&str; 4] = ["example.com", "example.net", "example.org", "mail.example"];

const ADDRESSES: [&str; 6] = [
    "1 Analytical Way, London",
    "12 Compiler Street, New York",
    "7 Bridge Lane, Königsberg",
    "Rue du Réseau 19, Paris",
    "Stack Square 404, Zürich",
    "Via della Coda 3, Pisa",
];

/// A person as a client sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Body {
    pub first_name: &'static str,
    pub last_name: &'static str,
    pub email: String,
    pub address: &'static str,
}

impl Body {
    /// A random person.
    pub fn random(rng: &mut Rng) -> Self {
        let mut choose = |list: &[&'static str]| list[rng.usize(..list.len())];
        let (first_name, last_name) = (choose(&FIRST_NAMES), choose(&LAST_NAMES));
        let host = choose(&MAIL_HOSTS);
        Body {
            first_name,
            last_name,
            email: format!("{first_name}.{last_name}@{host}").to_lowercase(),
            address: choose(&ADDRESSES),
        }
    }
}
