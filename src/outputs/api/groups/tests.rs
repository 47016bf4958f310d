use super::*;
use crate::exposition::TextLimits;
use crate::exposition::{CanonicalOptions, TimestampPolicy, canonicalize};
use crate::peer::Origin;
use crate::store::{OtherFamilies, Producer, StoreLimits};

fn store() -> Arc<Store> {
    let limits = StoreLimits {
        apps: 10,
        groups: 10,
        bytes: 1 << 20,
        registry: Default::default(),
    };
    Arc::new(Store::new(limits, false))
}

/// A push to the group of that job; with a `problem`, a failed one.
fn push(store: &Store, job: &str, problem: Option<&str>, now: Now) {
    let normal = CanonicalOptions {
        limits: TextLimits::default(),
        added: &[],
        timestamps: TimestampPolicy::Keep,
        hash: store.hasher(),
    };
    let change = Change::Update {
        id: found(job).0,
        families: canonicalize(&format!("m{{job=\"{job}\"}} 1\n"), &normal).unwrap(),
        defaults: Vec::new(),
        others: OtherFamilies::Keep,
        origin: Origin::default(),
        lifetime: None,
        problem: problem.map(str::to_owned),
    };
    store.apply(Write::one(change), now).unwrap();
}

fn found(job: &str) -> (SectionId, Group) {
    let group = Group::from_path(&format!("job/{job}"), false).unwrap();
    (SectionId::new(&group.key(), Producer::Group), group)
}

#[test]
fn a_group_that_is_pushed_during_a_removal_stays() {
    let store = store();
    let start = Now::read();
    for job in ["failed", "failed_twice", "old", "pushed"] {
        let problem = job.starts_with("failed").then_some("it was wrong");
        push(&store, job, problem, start);
    }
    let filter = Filter::of("older_than=1h").unwrap();
    let now = start.after(Duration::from_secs(7200));
    let old: Vec<_> = GroupScan::new(Arc::clone(&store), None)
        .filter(|(_, group, section)| filter.matches(group, section, now))
        .map(|(id, group, _)| (id, group))
        .collect();
    assert_eq!(old.len(), 4);
    // One of these is stamped before the removal has begun.
    push(
        &store,
        "failed",
        None,
        start.after(Duration::from_secs(7200)),
    );
    push(
        &store,
        "pushed",
        None,
        start.after(Duration::from_secs(5400)),
    );
    let gone = remove_page(&store, &filter, old, now);
    assert_eq!(gone, [found("failed_twice"), found("old")]);
    let left: Vec<_> = GroupScan::new(Arc::clone(&store), None)
        .map(|(id, ..)| id)
        .collect();
    assert_eq!(left, [found("failed").0, found("pushed").0]);
}

#[test]
fn removed_groups_are_counted() {
    let store = store();
    for job in ["a", "b", "c"] {
        push(&store, job, None, Now::read());
    }
    let count = |query: &str, dry_run| {
        let filter = Filter::of(query).unwrap();
        let (count, listed) = remove_matching(&store, &filter, dry_run);
        assert_eq!(listed.len(), count);
        count
    };
    assert_eq!(count("older_than=1h", false), 0);
    assert_eq!(count("match[]={job=~\"a|b\"}", true), 2);
    assert_eq!(count("match[]={job=~\"a|b\"}", false), 2);
    assert_eq!(count("match[]={}", false), 1);
}
