//! `/api/v1/groups`: lists and removes pushed groups.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinError;

use crate::clock::Now;
use crate::exposition::counted;
use crate::http::query;
use crate::http::reply::{self, Reply};
use crate::http::request::Request;
use crate::http::work;
use crate::ingest::selector::Selectors;
use crate::ingest::{Group, SeriesSelection};
use crate::settings::duration_of;
use crate::store::{Change, Section, SectionId, Store, Write};
use crate::telemetry::sender_log::{self, About, LogEvent};
use crate::telemetry::{clip, dates};

/// The default number of groups on a page, and its limit.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 10_000;

/// The limit on groups that the reply to a removal lists. The count includes all.
const MOST_LISTED: usize = 1000;

/// The number of groups that are read or removed under one lock.
const AT_ONCE: usize = 1000;

/// The approximate size of a chunk of a page, in bytes.
const PIECE: usize = 64 << 10;

/// Selects groups.
#[derive(Debug)]
struct Filter {
    /// Label selectors; without any, all groups match.
    selectors: Selectors,
    /// The minimum time since the last push.
    older_than: Option<Duration>,
}

impl Filter {
    fn of(query: &str) -> Result<Self, String> {
        let mut texts = query::values(query, "match[]");
        texts.extend(query::values(query, "match"));
        let older_than = query::value(query, "older_than").map(|text| {
            let problem = || format!(
                "older_than must be a number of seconds or text such as \"1h\" (at most \"100y\"), \
                 not {text:?}"
            );
            duration_of(&text).ok_or_else(problem)
        });
        Ok(Filter {
            selectors: Selectors::for_groups(&texts)?,
            older_than: older_than.transpose()?,
        })
    }

    fn is_empty(&self) -> bool {
        self.selectors.is_empty() && self.older_than.is_none()
    }

    /// Groups that were pushed since this time are too young to match.
    fn pushed_since(&self, now: Now) -> Option<Instant> {
        // Nothing can be older than the clock itself.
        self.older_than
            .map(|age| now.tick.checked_sub(age).unwrap_or(now.tick))
    }

    fn matches(&self, group: &Group, section: &Section, now: Now) -> bool {
        let selected = self.selectors.is_empty() || self.selectors.matches(group);
        let old = self.older_than.is_none_or(|age| {
            // A group without a successful push has the age of its last failure.
            let last = section
                .updated
                .or(section.problem.as_ref().map(|problem| problem.at));
            last.is_none_or(|at| now.since(at) > age)
        });
        selected && old
    }
}

/// `GET groups`: a page of groups, in order of their keys.
pub async fn list(store: &Arc<Store>, request: &Request) -> Reply {
    let query = request.query();
    let limit = query::value(query, "limit").map_or(Ok(PAGE), |text| {
        let limit = text
            .parse()
            .ok()
            .filter(|limit| (1..=LARGEST_PAGE).contains(limit));
        limit.ok_or_else(|| {
            format!("limit must be a whole number from 1 to {LARGEST_PAGE}, not {text:?}")
        })
    });
    let limit = match limit {
        Ok(limit) => limit,
        Err(problem) => return reply::api_error(StatusCode::BAD_REQUEST, "bad_data", &problem),
    };
    let after = query::value(query, "after").filter(|after| !after.is_empty());
    // If the group was removed, the list continues after its key.
    if let Some(after) = after
        .as_ref()
        .filter(|after| Group::from_key(after).is_none())
    {
        let problem = format!(
            "after must be the \"next\" of an earlier page, such as {{job=\"x\"}}, not {after:?}"
        );
        return reply::api_error(StatusCode::BAD_REQUEST, "bad_data", &clip(&problem));
    }
    let store = Arc::clone(store);
    let query = query.to_owned();
    let lists = &request.server.pools.lists;
    let filter = match lists.run(move || Filter::of(&query)).await {
        Ok(Ok(filter)) => filter,
        Ok(Err(problem)) => return reply_for(Ok(Err(problem))),
        Err(problem) => return reply_for(Err(problem)),
    };
    let page = Page {
        scan: GroupScan::new(store, after),
        filter,
        now: Now::read(),
        left: limit,
        last: None,
        looked_at: None,
        state: Progress::Start,
    };
    reply::list(lists, limit <= PAGE, true, Box::new(page)).await
}

/// A page of groups, generated while it is sent.
struct Page {
    scan: GroupScan,
    filter: Filter,
    now: Now,
    /// The number of groups that still fit on the page.
    left: usize,
    /// The last group on the page, and the last that was read.
    last: Option<SectionId>,
    looked_at: Option<SectionId>,
    state: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Start,
    Groups,
    End,
}

impl Iterator for Page {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        match self.state {
            Progress::Start => out.extend_from_slice(b"{\"data\":{\"groups\":["),
            Progress::Groups => {}
            Progress::End => return None,
        }
        self.state = Progress::Groups;
        for _ in 0..AT_ONCE {
            let next = match self.scan.next() {
                // The time for matching is used up: the next page continues here.
                Some((id, ..)) if self.filter.selectors.are_out_of_time() => {
                    let from = self.looked_at.as_ref().unwrap_or(&id);
                    Some(from.name.to_string())
                }
                Some((id, group, section)) if self.filter.matches(&group, &section, self.now) => {
                    if self.left > 0 {
                        self.left -= 1;
                        out.extend_from_slice(if self.last.is_some() { b"," } else { b"" });
                        let shown = group_json(&id, &group, &section, self.now);
                        serde_json::to_writer(&mut out, &shown)
                            .expect("a JSON value can be written");
                        self.last = Some(id.clone());
                        self.looked_at = Some(id);
                        if out.len() >= PIECE {
                            break;
                        }
                        continue;
                    }
                    // One more group matches, so there is another page.
                    self.last.as_ref().map(|id| id.name.to_string())
                }
                Some((id, ..)) => {
                    self.looked_at = Some(id);
                    continue;
                }
                None => None,
            };
            let end = format!("],\"next\":{}}},\"status\":\"success\"}}\n", json!(next));
            out.extend_from_slice(end.as_bytes());
            self.state = Progress::End;
            break;
        }
        Some(Bytes::from(out))
    }
}

/// `DELETE groups`: removes the groups that match, unless they are pushed meanwhile.
pub async fn remove(store: &Arc<Store>, request: &Request) -> Reply {
    let dry_run = match query::flag(request.query(), "dry_run") {
        Ok(dry_run) => dry_run,
        Err(problem) => return reply::api_error(StatusCode::BAD_REQUEST, "bad_data", &problem),
    };
    let store = Arc::clone(store);
    let query = request.query().to_owned();
    let lists = &request.server.pools.lists;
    let removed = lists.run(move || {
        let filter = Filter::of(&query)?;
        if filter.is_empty() {
            return Err("name the groups to delete by match[]={job=\"x\"}, older_than=1h or both; match[]={} means all".to_owned());
        }
        let removed = remove_matching(&store, &filter, dry_run);
        match filter.selectors.are_out_of_time() {
            true => Ok(Err(removed.0)),
            false => Ok(Ok(removed)),
        }
    });
    let removed = removed.await;
    if let Ok(Ok(Ok((count, _)) | Err(count))) = &removed
        && !dry_run
    {
        let (peer, groups) = (request.peer, counted(*count, "group", "groups"));
        let done = format_args!("{peer} removes {groups}");
        sender_log::write(LogEvent::Removal, About::peer(peer), done);
    }
    let shown = |removed| match removed {
        Ok((count, listed)) => reply::json(&json!({
            "status": "success",
            "data": { "dry_run": dry_run, "count": count, "groups": listed },
        })),
        Err(count) => cut_short(&counted(count, "group", "groups").to_string(), dry_run),
    };
    reply_for(removed.map(|removed| removed.map(shown)))
}

/// The reply when matching takes too long. `done` is the progress until then.
pub fn cut_short(done: &str, dry_run: bool) -> Reply {
    let how = if dry_run { "matched" } else { "removed" };
    let problem = format!(
        "the regular expressions take too long: {how} {done} so far; make them narrower, or send \
         the request again"
    );
    reply::api_error(StatusCode::SERVICE_UNAVAILABLE, "timeout", &problem)
}

/// `PUT admin/wipe`: removes all groups and all aggregated series.
pub async fn wipe(store: &Arc<Store>, request: &Request) -> Reply {
    let all = Filter {
        selectors: Selectors::default(),
        older_than: None,
    };
    let kept = Arc::clone(store);
    let store = Arc::clone(store);
    let lists = &request.server.pools.lists;
    let removed = lists
        .run(move || remove_matching(&store, &all, false))
        .await;
    if let Ok((count, _)) = &removed {
        let (peer, groups) = (request.peer, counted(*count, "group", "groups"));
        let done = format_args!("{peer} wipes {groups}");
        sender_log::write(LogEvent::Removal, About::peer(peer), done);
    }
    if removed.is_ok()
        && let Err(reply) = work::remove_series(request, &kept, SeriesSelection::All, false).await
    {
        return reply;
    }
    reply_for(removed.map(|_| Ok(reply::empty(StatusCode::ACCEPTED))))
}

/// Removes matching groups, some at a time so that pushes go on between. Returns their number
/// and the labels of the first ones. `dry_run` only counts and lists them.
fn remove_matching(store: &Arc<Store>, filter: &Filter, dry_run: bool) -> (usize, Vec<Value>) {
    let now = Now::read();
    let mut scan = GroupScan::new(Arc::clone(store), None);
    let mut count = 0;
    let mut listed = Vec::new();
    loop {
        let mut page: Vec<(SectionId, Group)> = Vec::new();
        let mut ended = true;
        for (id, group, section) in &mut scan {
            if filter.matches(&group, &section, now) {
                page.push((id, group));
            }
            if filter.selectors.are_out_of_time() {
                break;
            }
            if page.len() >= AT_ONCE {
                ended = false;
                break;
            }
        }
        if !dry_run {
            page = remove_page(store, filter, page, now);
        }
        count += page.len();
        let more = page.iter().take(MOST_LISTED - listed.len());
        listed.extend(more.map(|(_, group)| json!(group.labels())));
        if ended {
            return (count, listed);
        }
    }
}

/// Removes these groups, except, if their age counts, those that were pushed meanwhile. Returns
/// the removed ones.
fn remove_page(
    store: &Store,
    filter: &Filter,
    mut page: Vec<(SectionId, Group)>,
    now: Now,
) -> Vec<(SectionId, Group)> {
    let unless_since = filter.pushed_since(now);
    let changes = page
        .iter()
        .map(|(id, _)| Change::Remove {
            id: id.clone(),
            unless_since,
        })
        .collect();
    if let Err(refused) = store.apply(Write { changes }, now) {
        sender_log::internal_error(format_args!("groups cannot be removed: {refused}"));
        return Vec::new();
    }
    page.retain(|(id, _)| store.section_of(id).is_none());
    page
}

/// A group as JSON.
fn group_json(id: &SectionId, group: &Group, section: &Section, now: Now) -> Value {
    let labels: &BTreeMap<String, String> = group.labels();
    json!({
        "key": &*id.name,
        "labels": labels,
        "last_push": section.updated.map(|at| dates::rfc3339(at.wall)),
        "last_failure": section.problem.as_ref().map(|problem| json!({
            "time": dates::rfc3339(problem.at.wall),
            "reason": problem.reason,
        })),
        "families": section.families().count(),
        "series": section.series(),
        "bytes": section.bytes,
        "source": &*section.origin.source,
        "peer": section.origin.peer.to_string(),
        "expires_at": section.expires(now).map(dates::rfc3339),
    })
}

/// All groups in order, read from the store in pages.
pub struct GroupScan {
    store: Arc<Store>,
    after: Option<String>,
    page: std::vec::IntoIter<(SectionId, Section)>,
    ended: bool,
}

impl GroupScan {
    /// Begins after the group with the key `after`.
    pub fn new(store: Arc<Store>, after: Option<String>) -> Self {
        GroupScan {
            store,
            after,
            page: Vec::new().into_iter(),
            ended: false,
        }
    }
}

impl Iterator for GroupScan {
    type Item = (SectionId, Group, Section);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((id, section)) = self.page.next() {
                self.after = Some(id.name.to_string());
                if let Some(group) = Group::from_key(&id.name) {
                    return Some((id, group, section));
                }
                continue;
            }
            if self.ended {
                return None;
            }
            let page = self.store.groups(self.after.as_deref(), AT_ONCE);
            self.ended = page.len() < AT_ONCE;
            self.page = page.into_iter();
        }
    }
}

/// The reply: the result, a bad request, or an internal error.
fn reply_for(made: Result<Result<Reply, String>, JoinError>) -> Reply {
    match made {
        Ok(Ok(reply)) => reply,
        Ok(Err(problem)) => reply::api_error(StatusCode::BAD_REQUEST, "bad_data", &problem),
        Err(problem) => {
            sender_log::internal_error(format_args!("groups cannot be listed: {problem}"));
            let problem = "the groups cannot be listed; the log has the cause";
            reply::api_error(StatusCode::INTERNAL_SERVER_ERROR, "internal", problem)
        }
    }
}

#[cfg(test)]
mod tests;
