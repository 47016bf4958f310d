//! `/apps`: apps, targets and groups in one list, problems first.

use hyper::StatusCode;
use maud::{Markup, html};

use super::shell::{Tab, pager};
use super::show::{self, count};
use super::{Page, PageResult};
use crate::clock::Now;
use crate::http::request::Request;
use crate::outputs::listing::{Attention, KINDS, Listing, PAGE, Sort, StateFilter};
use crate::store::{Producer, Section, SectionId, SectionState, Store};
use crate::telemetry::clip;

/// The limit of text whose samples are counted for one page, in bytes. It takes some
/// milliseconds.
const MAX_COUNTED: usize = 16 << 20;

/// The columns, with the order that sorts by each, if there is one.
const COLUMNS: [(&str, &str, Option<Sort>); 8] = [
    ("State", "state", Some(Sort::Problems)),
    ("Name", "name", Some(Sort::Name)),
    ("Kind", "kind", Some(Sort::Kind)),
    ("From", "from", None),
    ("Age", "age", Some(Sort::Age)),
    ("Samples", "samples", None),
    ("Size", "size", Some(Sort::Size)),
    ("Expires", "expires", Some(Sort::Expires)),
];

/// A source in the list.
struct ListedSource {
    id: SectionId,
    section: Section,
    /// `None` if counting would take too long.
    samples: Option<usize>,
}

impl Page {
    pub(super) async fn sources(&self, request: &Request) -> PageResult {
        let listing = Listing::of_query(request.query());
        let listing = listing.map_err(|problem| {
            let problem = clip(&problem);
            self.shell
                .failure(request, StatusCode::BAD_REQUEST, &problem)
        })?;
        let now = Now::read();
        let asked = Listing {
            sort: listing.sort.or(Some(Sort::Problems)),
            page: listing.page.or(Some(1)),
            ..listing.clone()
        };
        let store = std::sync::Arc::clone(&self.context.store);
        let sort = asked.sort;
        let page = asked.page.unwrap_or(1);
        let work = move || {
            let chosen = asked.choose(&store, now);
            (read(&store, chosen.ids), chosen.total)
        };
        let (sources, total) = self.on_pool(request, work).await?;
        let all = self.context.store.totals().states;
        let shown = sources.len();
        let content = html! {
            (self.shell.done(request))
            div.title {
                h1 { "Sources" }
                p.summary {
                    (count(all.total(Producer::App) as u64)) " apps, "
                    (count(all.total(Producer::Target) as u64)) " targets, "
                    (count(all.total(Producer::Group) as u64)) " groups"
                }
            }
            (self.filters(&listing))
            @if sources.is_empty() {
                p.empty {
                    @if all.all() == 0 {
                        "No app, target or group yet. Apps appear when they push, targets when they are configured."
                    } @else if page > 1 && total > 0 {
                        "The list has no page " (page) ". "
                        a href=(self.sources_link(&listing, sort, 1)) { "First page" }
                    } @else {
                        "No source matches. " a href=(self.shell.link("/apps")) { "Show all" }
                    }
                }
            } @else {
                div.scroll {
                    table.lines.sources {
                        thead { tr {
                            @for (title, class, order) in COLUMNS {
                                (self.column(&listing, sort, title, class, order))
                            }
                        } }
                        @for source in &sources { (self.row(source, now)) }
                    }
                }
                (pager((page, shown, total), PAGE, |page| self.sources_link(&listing, sort, page)))
            }
        };
        Ok(self
            .shell
            .page(request, StatusCode::OK, (Tab::Sources, "Sources"), &content))
    }

    /// The form for search and filters.
    fn filters(&self, listing: &Listing) -> Markup {
        let states = SectionState::ALL.into_iter().map(StateFilter::Is);
        let states = [StateFilter::Problem].into_iter().chain(states);
        html! {
            form.filters method="get" action=(self.shell.link("/apps")) role="search" {
                label.search {
                    span { "Search" }
                    input type="search" name="q" value=(listing.search) placeholder="Name, URL or address" autocomplete="off" spellcheck="false";
                }
                label {
                    span { "Kind" }
                    select name="kind" {
                        option value="" { "all" }
                        @for kind in KINDS {
                            option value=(kind.as_str()) selected[listing.kind == Some(kind)] { (kind.as_str()) }
                        }
                    }
                }
                label {
                    span { "State" }
                    select name="state" {
                        option value="" { "all" }
                        @for state in states {
                            option value=(state.as_str()) selected[listing.state == Some(state)] { (state.as_str()) }
                        }
                    }
                }
                @if let Some(sort) = listing.sort {
                    input type="hidden" name="sort" value=(sort_text(sort, listing.is_descending));
                }
                button { "Show" }
            }
        }
    }

    /// The head of a column, which sorts the list.
    fn column(
        &self,
        listing: &Listing,
        sort: Option<Sort>,
        title: &str,
        class: &str,
        order: Option<Sort>,
    ) -> Markup {
        let Some(order) = order else {
            return html! { th.{(class)} scope="col" { (title) } };
        };
        let is_current = sort == Some(order);
        let direction = match (is_current, listing.is_descending) {
            (false, _) => None,
            (true, false) => Some("ascending"),
            (true, true) => Some("descending"),
        };
        // People look for the largest texts first.
        let is_descending = match is_current {
            true => !listing.is_descending,
            false => order == Sort::Size,
        };
        let next = Listing {
            is_descending,
            ..listing.clone()
        };
        html! {
            th.{(class)} scope="col" aria-sort=[direction] {
                a href=(self.sources_link(&next, Some(order), 1)) { (title) }
            }
        }
    }

    fn sources_link(&self, listing: &Listing, sort: Option<Sort>, page: usize) -> String {
        let sort = sort.map(|sort| sort_text(sort, listing.is_descending));
        let sort = sort.filter(|sort| sort != Sort::Problems.as_str());
        let page = if page > 1 {
            page.to_string()
        } else {
            String::new()
        };
        let parameters = [
            ("q", listing.search.as_str()),
            ("kind", listing.kind.map_or("", Producer::as_str)),
            ("state", listing.state.map_or("", StateFilter::as_str)),
            ("sort", sort.as_deref().unwrap_or_default()),
            ("page", &page),
        ];
        self.shell.link_with("/apps", &parameters)
    }

    fn row(&self, source: &ListedSource, now: Now) -> Markup {
        let ListedSource {
            id,
            section,
            samples,
        } = source;
        let problem = problem(section, now);
        let expires = section.expires(now);
        let class = match section.state {
            SectionState::Fresh => "warn",
            _ => "",
        };
        html! {
            tbody {
                tr {
                    td.state { (state(section)) }
                    td.name {
                        a href=(self.shell.link(&show::source_path(id, ""))) { (show::name(id)) }
                    }
                    td.kind { (id.producer.as_str()) }
                    td.from { (from(section)) }
                    td.age {
                        @if let Some(at) = section.updated { (show::age(at, now)) } @else { "never" }
                    }
                    td.samples {
                        @if let Some(samples) = samples { (count(*samples as u64)) }
                        @else { span title="Not counted: the texts of this page are large" { "–" } }
                    }
                    td.size { (show::bytes(section.bytes)) }
                    td.expires {
                        @if let Some(at) = expires { (show::until(at, now)) } @else { "–" }
                    }
                }
                @if let Some(problem) = problem {
                    tr class={ "why " (class) } { td {} td colspan="7" { (problem) } }
                }
            }
        }
    }
}

fn sort_text(sort: Sort, is_descending: bool) -> String {
    let sign = if is_descending { "-" } else { "" };
    format!("{sign}{}", sort.as_str())
}

/// Reads the sources of a page, and counts their samples as long as that is quick.
fn read(store: &Store, ids: Vec<SectionId>) -> Vec<ListedSource> {
    let mut left = MAX_COUNTED;
    let listed = ids.into_iter().filter_map(|id| {
        // The source may have been removed since.
        let section = store.section_of(&id)?;
        let is_counted = section.bytes <= left;
        let samples = is_counted.then(|| {
            left -= section.bytes;
            store.sample_lines(&id)
        });
        Some(ListedSource {
            id,
            section,
            samples,
        })
    });
    listed.collect()
}

/// The word for the state of a source. An exposed text with findings is named after these.
pub(super) fn state(section: &Section) -> Markup {
    let findings = section.findings.as_deref();
    match findings.filter(|_| section.state == SectionState::Fresh) {
        Some(findings) => html! {
            span.state.stale {
                @if findings.suspect.is_some() { "suspect" } @else { "conflict" }
            }
        },
        None => show::state(section.state),
    }
}

/// The URL or the sender of a source.
pub(super) fn from(section: &Section) -> Markup {
    html! {
        @match &section.url {
            Some(url) => (show::sent(url)),
            None => (section.origin.peer.to_string()),
        }
    }
}

/// The problems of a source, if it has any.
pub(super) fn problem(section: &Section, now: Now) -> Option<Markup> {
    if !Attention::of(section).is_problem() {
        return None;
    }
    let findings = section.findings.as_ref();
    let suspect = findings.and_then(|it| it.suspect.as_ref());
    let conflicts = findings.map_or(&[][..], |it| &it.conflicts);
    let is_failed = section.state != SectionState::Fresh;
    let failure = section.problem.as_ref().filter(|_| is_failed);
    Some(html! {
        @if let Some(failure) = failure {
            (clip(&failure.reason)) " " span.when { "(" (show::ago(failure.at, now)) ")" }
        }
        @if let Some(suspect) = suspect {
            @if failure.is_some() { br; }
            "Prometheus would reject this text: " (clip(&suspect.to_string()))
        }
        @if let Some(first) = conflicts.first() {
            @if failure.is_some() || suspect.is_some() { br; }
            "Conflict: " (clip(&first.to_string()))
            @if conflicts.len() > 1 { " (and " (count(conflicts.len() as u64 - 1)) " more)" }
        }
    })
}
