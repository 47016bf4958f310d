//! Statistics of polled targets and of discoveries.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::results;
use crate::clock::Now;
use crate::exposition::{LabelText, counted};
use crate::reason::Reason;

/// The longest time that readiness waits for first polls after the start.
const MAX_FIRST_POLLS: Duration = Duration::from_secs(10);

/// The most names in a list for people.
const MAX_LISTED: usize = 10;

/// The statistics of all targets.
#[derive(Debug, Default)]
pub struct Targets {
    all: Mutex<All>,
    /// Whether readiness no longer waits for first polls.
    are_tried: AtomicBool,
}

#[derive(Debug, Default)]
struct All {
    /// By name, and by a number that counts additions: when a target replaces another of its
    /// name, both are here for a moment.
    targets: BTreeMap<(Arc<str>, u64), Arc<TargetStats>>,
    next: u64,
    /// The discoveries, in the order of the configuration.
    discoveries: Vec<Arc<DiscoveryStats>>,
}

impl Targets {
    /// Adds the statistics of a target. The configuration limits the number of targets.
    pub fn add(&self, name: &str, info: Arc<TargetInfo>) -> Arc<TargetStats> {
        let mut all = self.lock();
        let stats = Arc::new(TargetStats::new(name, info, all.next));
        let key = (Arc::clone(&stats.name), stats.serial);
        all.targets.insert(key, Arc::clone(&stats));
        all.next += 1;
        stats
    }

    /// Removes the statistics of a target that is no longer polled.
    pub fn remove(&self, stats: &TargetStats) {
        let key = (Arc::clone(&stats.name), stats.serial);
        self.lock().targets.remove(&key);
    }

    /// Replaces the statistics of all discoveries.
    pub fn set_discoveries(&self, discoveries: Vec<Arc<DiscoveryStats>>) {
        self.lock().discoveries = discoveries;
    }

    /// The statistics of all discoveries, in the order of the configuration.
    pub fn discoveries(&self) -> Vec<Arc<DiscoveryStats>> {
        self.lock().discoveries.clone()
    }

    /// The statistics of all targets by name. Of two with one name, the newer one.
    pub fn by_name(&self) -> BTreeMap<Arc<str>, Arc<TargetStats>> {
        let all = self.lock();
        let targets = all.targets.values();
        targets
            .map(|stats| (Arc::clone(&stats.name), Arc::clone(stats)))
            .collect()
    }

    /// The statistics of the target of this name.
    pub fn get(&self, name: &str) -> Option<Arc<TargetStats>> {
        let name: Arc<str> = Arc::from(name);
        let all = self.lock();
        let named = all.targets.range((Arc::clone(&name), 0)..=(name, u64::MAX));
        named.last().map(|(_, stats)| Arc::clone(stats))
    }

    /// What readiness still waits for after the start, for people: discoveries without a first
    /// result, and targets that have not been polled. After some seconds it waits for nothing.
    pub fn untried(&self, started: Now, now: Now) -> Option<String> {
        if self.are_tried.load(Ordering::Relaxed) {
            return None;
        }
        let is_over = now.since(started) >= MAX_FIRST_POLLS;
        let discoveries = self.discoveries();
        let mut waiting = discoveries
            .iter()
            .filter(|it| it.state().success().is_none());
        if let Some(discovery) = waiting.next().filter(|_| !is_over) {
            let name = &discovery.name;
            return Some(format!("waiting for the first targets of {name}"));
        }
        let targets = self.by_name();
        // Targets that are polled only by scrapes do not count.
        let is_untried =
            |it: &&Arc<TargetStats>| it.polls().success.is_none() && it.info().interval.is_some();
        let untried = || targets.values().filter(is_untried);
        let count = untried().count();
        if count == 0 || is_over {
            self.are_tried.store(true, Ordering::Relaxed);
            return None;
        }
        let names: Vec<&str> = untried().take(MAX_LISTED).map(|it| &*it.name).collect();
        let more = match count > names.len() {
            true => ", ...",
            false => "",
        };
        Some(format!(
            "waiting for the first poll of {count} of {}: {}{more}",
            counted(targets.len(), "target", "targets"),
            names.join(", ")
        ))
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The statistics of one target.
#[derive(Debug)]
pub struct TargetStats {
    /// The name of the target.
    pub name: Arc<str>,
    serial: u64,
    /// The settings that it is polled with.
    info: Mutex<Arc<TargetInfo>>,
    polls: Mutex<Polls>,
    /// The last polls, oldest first.
    recent: Mutex<VecDeque<PollRecord>>,
}

/// The settings that a target is polled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetInfo {
    /// The URL, without secrets.
    pub url: Arc<str>,
    /// The labels of its samples.
    pub labels: LabelText,
    /// The setting that names the target, or the discovery and list that found it.
    pub found_in: Arc<str>,
    /// From the start of one poll to the start of the next; `None` if scrapes poll it.
    pub interval: Option<Duration>,
    /// The timeout of a poll.
    pub timeout: Duration,
}

/// The polls of one target so far.
#[derive(Debug, Clone, Default)]
pub struct Polls {
    /// Whether the last poll succeeded; `None` before the first one ended.
    pub success: Option<bool>,
    /// The duration of the last poll.
    pub duration: Duration,
    /// When it ended.
    pub ended: Option<Now>,
    /// When a poll last succeeded.
    pub last_success: Option<Now>,
    /// Samples in the last text that was stored.
    pub samples: usize,
    /// When the file of that text was modified, in seconds since 1970; `None` for other targets.
    pub modified: Option<f64>,
    /// Polls by result, sorted: `ok`, or the reason for failure. Most targets have one result, for
    /// which a map would take several times the memory.
    pub results: Vec<(&'static str, u64)>,
}

/// How one poll ended.
#[derive(Debug, Clone, Copy)]
pub struct PollRecord {
    /// When it ended.
    pub at: Instant,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub result: Result<(), Reason>,
}

/// The number of polls of a target that are kept.
const MAX_RECENT: usize = 10;

impl TargetStats {
    /// Statistics without any polls.
    fn new(name: &str, info: Arc<TargetInfo>, serial: u64) -> Self {
        TargetStats {
            name: Arc::from(name),
            serial,
            info: Mutex::new(info),
            polls: Mutex::default(),
            recent: Mutex::default(),
        }
    }

    /// The settings that the target is polled with.
    pub fn info(&self) -> Arc<TargetInfo> {
        let info = self.info.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&info)
    }

    /// Replaces the settings that the target is polled with.
    pub fn set_info(&self, info: Arc<TargetInfo>) {
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = info;
    }

    /// Records a poll that took `duration` and ended now.
    pub fn record(&self, result: Result<(), Reason>, duration: Duration, now: Now) {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        polls.success = Some(result.is_ok());
        polls.duration = duration;
        polls.ended = Some(now);
        if result.is_ok() {
            polls.last_success = Some(now);
        }
        let label = results::label(result);
        match polls
            .results
            .binary_search_by_key(&label, |(other, _)| other)
        {
            Ok(index) => polls.results[index].1 += 1,
            Err(index) => polls.results.insert(index, (label, 1)),
        }
        drop(polls);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == MAX_RECENT {
            recent.pop_front();
        } else if recent.is_empty() {
            recent.reserve_exact(MAX_RECENT);
        }
        recent.push_back(PollRecord {
            at: now.tick,
            duration,
            result,
        });
    }

    /// Records the number of samples in a stored text, and when its file was modified, in seconds
    /// since 1970.
    pub fn record_samples(&self, samples: usize, modified: Option<f64>) {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        polls.samples = samples;
        polls.modified = modified;
    }

    /// The polls so far.
    pub fn polls(&self) -> Polls {
        self.polls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The last polls, oldest first.
    pub fn recent(&self) -> Vec<PollRecord> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().copied().collect()
    }
}

/// The statistics of a discovery.
#[derive(Debug)]
pub struct DiscoveryStats {
    /// The setting, such as `file_sd[0]`.
    pub name: String,
    /// Where it finds targets, without secrets.
    pub source: String,
    state: Mutex<DiscoveryState>,
}

/// The updates of a discovery so far.
#[derive(Debug, Clone, Default)]
pub struct DiscoveryState {
    /// Targets that are polled.
    pub targets: usize,
    /// Entries that are not polled, because they are invalid or beyond the limit.
    pub rejected: usize,
    /// The reasons, for the first of these entries.
    pub rejections: Vec<String>,
    /// Entries that `relabel` drops.
    pub dropped: usize,
    /// When an update last succeeded.
    pub last_success: Option<Now>,
    /// Why the last update failed, and when; `None` if it succeeded.
    pub problem: Option<(String, Now)>,
    /// Updates by result: `ok`, or the reason for failure.
    pub results: BTreeMap<&'static str, u64>,
}

impl DiscoveryState {
    /// Whether the last update succeeded; `None` before the first one has ended.
    pub fn success(&self) -> Option<bool> {
        match (&self.problem, self.last_success) {
            (Some(_), _) => Some(false),
            (None, Some(_)) => Some(true),
            (None, None) => None,
        }
    }

    /// The word for the state: `waiting`, `working` or `failing`.
    pub fn word(&self) -> &'static str {
        match self.success() {
            None => "waiting",
            Some(true) => "working",
            Some(false) => "failing",
        }
    }
}

impl DiscoveryStats {
    /// Statistics without any updates.
    pub fn new(name: String, source: String) -> Self {
        DiscoveryStats {
            name,
            source,
            state: Mutex::default(),
        }
    }

    /// Records an update. `problem` is why it failed. Returns the problem of the update
    /// before.
    pub fn record(&self, problem: Result<(), (Reason, String)>, now: Now) -> Option<String> {
        let mut state = self.lock();
        let before = state.problem.take().map(|(problem, _)| problem);
        let result = problem.as_ref().map_err(|(reason, _)| *reason).copied();
        *state.results.entry(results::label(result)).or_default() += 1;
        match problem {
            Ok(()) => state.last_success = Some(now),
            Err((_, problem)) => state.problem = Some((problem, now)),
        }
        before
    }

    /// Records the polled targets, and the entries that are not polled.
    pub fn record_targets(
        &self,
        (targets, dropped): (usize, usize),
        rejected: usize,
        rejections: Vec<String>,
    ) {
        let mut state = self.lock();
        (state.targets, state.dropped) = (targets, dropped);
        state.rejected = rejected;
        state.rejections = rejections;
    }

    /// The updates so far.
    pub fn state(&self) -> DiscoveryState {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, DiscoveryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> Arc<TargetInfo> {
        Arc::new(TargetInfo {
            url: Arc::from("http://a/"),
            labels: LabelText::default(),
            found_in: Arc::from("poll_external.targets"),
            interval: Some(Duration::from_secs(1)),
            timeout: Duration::from_secs(1),
        })
    }

    #[test]
    fn readiness_waits_for_first_polls_for_a_limited_time() {
        let started = Now::read();
        let at = |seconds| started.after(Duration::from_secs(seconds));
        let targets = Targets::default();
        assert_eq!(targets.untried(started, at(0)), None);

        let targets = Targets::default();
        let (a, b) = (targets.add("a", info()), targets.add("b", info()));
        let waiting = |now| targets.untried(started, now);
        let all = "waiting for the first poll of 2 of 2 targets: a, b";
        assert_eq!(waiting(at(9)).as_deref(), Some(all));
        a.record(Err(Reason::Timeout), Duration::ZERO, at(1));
        let one = "waiting for the first poll of 1 of 2 targets: b";
        assert_eq!(waiting(at(9)).as_deref(), Some(one));
        b.record(Ok(()), Duration::ZERO, at(1));
        assert_eq!(waiting(at(9)), None);
        // Targets that a later reload adds do not count.
        targets.add("c", info());
        assert_eq!(waiting(at(9)), None);

        let targets = Targets::default();
        let names: Vec<String> = (0..12).map(|number| format!("t{number:02}")).collect();
        names
            .iter()
            .for_each(|name| drop(targets.add(name, info())));
        let message = targets.untried(started, at(9)).expect("it waits");
        assert!(message.ends_with(": t00, t01, t02, t03, t04, t05, t06, t07, t08, t09, ..."));
        assert_eq!(targets.untried(started, at(10)), None);
        // It stays ready from then on.
        assert_eq!(targets.untried(started, at(9)), None);
    }

    #[test]
    fn readiness_waits_for_discoveries_too() {
        let started = Now::read();
        let targets = Targets::default();
        let names = ["file_sd[0]", "http_sd[0]"];
        let discoveries = names.map(|name| DiscoveryStats::new(name.to_owned(), String::new()));
        let discoveries = discoveries.map(Arc::new);
        targets.set_discoveries(discoveries.to_vec());
        let waiting = |name| Some(format!("waiting for the first targets of {name}"));
        assert_eq!(targets.untried(started, started), waiting("file_sd[0]"));
        discoveries[0].record(Ok(()), started);
        assert_eq!(targets.untried(started, started), waiting("http_sd[0]"));
        let failed = Err((Reason::Timeout, "no answer".to_owned()));
        assert_eq!(discoveries[1].record(failed, started), None);
        assert_eq!(targets.untried(started, started), None);
        assert_eq!(
            discoveries[1].record(Ok(()), started).as_deref(),
            Some("no answer")
        );
        let state = discoveries[1].state();
        assert!(state.problem.is_none() && state.last_success.is_some());
        let results: Vec<_> = state.results.into_iter().collect();
        assert_eq!(results, [("ok", 1), ("timeout", 1)]);
    }

    #[test]
    fn a_target_hides_the_one_that_it_replaces() {
        let targets = Targets::default();
        let (old, new) = (targets.add("a", info()), targets.add("a", info()));
        let shown = targets.by_name();
        assert!(shown.len() == 1 && Arc::ptr_eq(&shown["a"], &new));
        targets.remove(&new);
        assert!(Arc::ptr_eq(&targets.by_name()["a"], &old));
        assert!(Arc::ptr_eq(&targets.get("a").unwrap(), &old) && targets.get("b").is_none());
        targets.remove(&old);
        assert!(targets.by_name().is_empty());
    }
}
