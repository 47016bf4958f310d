//! The scenarios: their requests, how many, and when. `load.js` has the same ones for k6.

use std::time::Duration;

use fastrand::Rng;

use crate::people;

/// The pause of a user after each request.
pub const PAUSE: Duration = Duration::from_millis(500);

/// Ids in requests are below this.
const IDS: u64 = 1000;

/// The time limit of a scenario that ends with its last iteration, as in k6.
const MAX_DURATION: Duration = Duration::from_secs(600);

/// The least time limit of a shortened scenario, so that a few iterations also end on a slow
/// machine.
const LEAST_LIMIT: Duration = Duration::from_secs(30);

/// Requests of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scenario {
    /// Its name, as in k6's summary.
    pub name: &'static str,
    /// The kind of its requests.
    pub kind: Kind,
    /// The number of users, each of which makes one request at a time.
    pub users: usize,
    /// When it starts.
    pub start: Duration,
    /// How long it runs.
    pub pace: Pace,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Create,
    Update,
    Delete,
    Get,
    List,
}

/// How iterations follow one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as the users can, until `iterations` are done (k6: `shared-iterations`).
    Shared {
        iterations: u64,
        max_duration: Duration,
    },
    /// `per_second` iterations begin each second (k6: `constant-arrival-rate`). One that finds no
    /// free user is dropped.
    Constant { per_second: u32, duration: Duration },
}

/// All scenarios.
pub const SCENARIOS: [Scenario; 5] = [
    Scenario {
        name: "create_users",
        kind: Kind::Create,
        users: 50,
        start: Duration::ZERO,
        pace: Pace::Shared {
            iterations: 50_000,
            max_duration: MAX_DURATION,
        },
    },
    Scenario {
        name: "update_users",
        kind: Kind::Update,
        users: 5,
        start: Duration::from_secs(5),
        pace: Pace::Constant {
            per_second: 5,
            duration: Duration::from_secs(300),
        },
    },
    Scenario {
        name: "delete_users",
        kind: Kind::Delete,
        users: 2,
        start: Duration::from_secs(30),
        pace: Pace::Shared {
            iterations: 1500,
            max_duration: MAX_DURATION,
        },
    },
    Scenario {
        name: "get_users",
        kind: Kind::Get,
        users: 10,
        start: Duration::from_secs(5),
        pace: Pace::Constant {
            per_second: 20,
            duration: Duration::from_secs(600),
        },
    },
    Scenario {
        name: "get_userList",
        kind: Kind::List,
        users: 5,
        start: Duration::from_secs(5),
        pace: Pace::Constant {
            per_second: 10,
            duration: Duration::from_secs(600),
        },
    },
];

impl Scenario {
    /// The scenario with a fraction of its iterations, in a fraction of its time. Users and
    /// rates stay the same, and a time limit does not fall below [`LEAST_LIMIT`].
    pub fn shortened(self, fraction: f64) -> Self {
        let time = |time: Duration| time.mul_f64(fraction);
        let pace = match self.pace {
            Pace::Shared {
                iterations,
                max_duration,
            } => Pace::Shared {
                iterations: (iterations as f64 * fraction).ceil() as u64,
                max_duration: time(max_duration).max(LEAST_LIMIT),
            },
            Pace::Constant {
                per_second,
                duration,
            } => Pace::Constant {
                per_second,
                duration: time(duration),
            },
        };
        Scenario {
            start: time(self.start),
            pace,
            ..self
        }
    }

    /// The number of iterations if none is dropped and time suffices.
    pub fn iterations(&self) -> u64 {
        match self.pace {
            Pace::Shared { iterations, .. } => iterations,
            Pace::Constant {
                per_second,
                duration,
            } => (f64::from(per_second) * duration.as_secs_f64()).round() as u64,
        }
    }
}

/// A request to the service.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// The person, for requests that write.
    pub body: Option<people::Body>,
}

impl Request {
    /// A random request.
    pub fn random(kind: Kind, rng: &mut Rng) -> Self {
        let id = rng.u64(..IDS);
        let (method, path) = match kind {
            Kind::Create => ("POST", "/person".to_owned()),
            Kind::Update => ("PUT", format!("/person/{id}")),
            Kind::Delete => ("DELETE", format!("/person/{id}")),
            Kind::Get => ("GET", format!("/person/{id}")),
            Kind::List => ("GET", format!("/person/list?start={id}")),
        };
        let writes = matches!(kind, Kind::Create | Kind::Update);
        Request {
            method,
            path,
            body: writes.then(|| people::Body::random(rng)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_shortens_time_and_iterations() {
        let short = SCENARIOS.map(|scenario| scenario.shortened(0.01));
        let iterations = short.map(|scenario| scenario.iterations());
        assert_eq!(iterations, [500, 15, 15, 120, 60]);
        assert_eq!(short[2].start, Duration::from_millis(300));
        assert_eq!(
            short[1].pace,
            Pace::Constant {
                per_second: 5,
                duration: Duration::from_secs(3)
            }
        );
        let limit = |scenario: Scenario| match scenario.pace {
            Pace::Shared { max_duration, .. } => Some(max_duration.as_secs()),
            Pace::Constant { .. } => None,
        };
        assert_eq!(limit(short[0]), Some(30));
        assert_eq!(limit(SCENARIOS[0].shortened(0.1)), Some(60));
        let whole = SCENARIOS.map(|scenario| scenario.shortened(1.0));
        assert_eq!(whole, SCENARIOS);
    }

    #[test]
    fn requests_follow_the_seed_and_have_ids_below_1000() {
        let requests = |kind| -> Vec<Request> {
            let mut rng = Rng::with_seed(3);
            (0..2000).map(|_| Request::random(kind, &mut rng)).collect()
        };
        for (kind, method, prefix, writes) in [
            (Kind::Create, "POST", "/person", true),
            (Kind::Update, "PUT", "/person/", true),
            (Kind::Delete, "DELETE", "/person/", false),
            (Kind::Get, "GET", "/person/", false),
            (Kind::List, "GET", "/person/list?start=", false),
        ] {
            let made = requests(kind);
            assert_eq!(made, requests(kind));
            for request in made {
                assert_eq!(request.method, method);
                assert_eq!(request.body.is_some(), writes);
                let id = request.path.strip_prefix(prefix).unwrap();
                let id = if id.is_empty() { "0" } else { id };
                assert!(id.parse::<u64>().unwrap() < IDS, "{}", request.path);
            }
        }
    }
}
