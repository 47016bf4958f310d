//! `/aggregated`: aggregated families, with the policy by which their values combine.

use std::sync::Arc;

use hyper::StatusCode;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::actions::{Action, confirmed};
use super::shell::{Tab, pager};
use super::show::{self, count};
use super::token::Token;
use super::{Page, PageResult, is_for_page};
use crate::clock::Now;
use crate::exposition::{InputFormat, unescape, unescape_help};
use crate::http::query;
use crate::http::reply;
use crate::http::request::Request;
use crate::ingest::aggregation;
use crate::store::FamilySummary;
use crate::telemetry::{clip, clip_to, dates};

/// The number of families on a page.
const PAGE: usize = 100;

/// The longest name and the longest help that are shown, in bytes.
const MAX_SHOWN: usize = 200;

/// The orders, by their words in the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Name,
    Kind,
    Series,
    Change,
}

const SORTS: [(&str, Sort); 4] = [
    ("name", Sort::Name),
    ("kind", Sort::Kind),
    ("series", Sort::Series),
    ("change", Sort::Change),
];

/// The contents of the list, and their order.
struct Choice {
    search: String,
    kind: String,
    sort: Sort,
    page: usize,
}

impl Choice {
    fn of_query(text: &str) -> Result<Self, String> {
        let value = |name| query::value(text, name).filter(|value| !value.is_empty());
        let sort = value("sort").map_or(Ok(Sort::Name), |word| {
            let found = SORTS.iter().find(|(known, _)| *known == word);
            found.map(|(_, sort)| *sort).ok_or_else(|| {
                let words = SORTS.map(|(word, _)| word).join(", ");
                format!("sort must be one of {words}, not {word:?}")
            })
        })?;
        let page = value("page").map_or(Ok(1), |page| {
            let number = page.parse().ok().filter(|page| *page > 0);
            number.ok_or_else(|| format!("page must be a whole number from 1, not {page:?}"))
        })?;
        Ok(Choice {
            search: value("q").unwrap_or_default().to_ascii_lowercase(),
            kind: value("kind").unwrap_or_default(),
            sort,
            page,
        })
    }

    /// Chooses the families of the list, in order.
    fn choose(&self, mut families: Vec<FamilySummary>) -> Vec<FamilySummary> {
        families.retain(|family| {
            (self.kind.is_empty() || family.kind.as_str() == self.kind)
                && family.name.to_ascii_lowercase().contains(&self.search)
        });
        families.sort_unstable_by(|one, other| {
            let by_name = one.name.cmp(&other.name);
            match self.sort {
                Sort::Name => by_name,
                Sort::Kind => one.kind.as_str().cmp(other.kind.as_str()).then(by_name),
                Sort::Series => other.series.cmp(&one.series).then(by_name),
                Sort::Change => other.changed.cmp(&one.changed).then(by_name),
            }
        });
        families
    }
}

impl Page {
    pub(super) async fn aggregated(&self, request: &Request) -> PageResult {
        let is_page = is_for_page(&request.head);
        let choice = Choice::of_query(request.query()).map_err(|problem| match is_page {
            true => {
                let problem = clip(&problem);
                self.shell
                    .failure(request, StatusCode::BAD_REQUEST, &problem)
            }
            false => reply::bad_value(&problem),
        })?;
        let store = Arc::clone(&self.context.store);
        let work = move || {
            let families = choice.choose(store.aggregated_families());
            let total = families.len();
            let begin = (choice.page - 1).saturating_mul(PAGE);
            let shown: Vec<FamilySummary> = match is_page {
                true => families.into_iter().skip(begin).take(PAGE).collect(),
                false => families,
            };
            (choice, shown, total)
        };
        let (choice, families, total) = self.on_pool(request, work).await?;
        let now = Now::read();
        if !is_page {
            let all: Vec<Value> = families
                .iter()
                .map(|it| self.family_json(it, now))
                .collect();
            return Ok(reply::json(&json!({ "families": all, "total": total })));
        }
        let limits = self.context.telemetry.limits.load();
        let totals = self.context.store.aggregated_totals();
        let token = Token::of(&self.token_key, request.headers());
        let has_actions = request.server.accepts_pushes;
        let content = html! {
            (self.shell.done(request))
            div.title {
                h1 { "Aggregated families" }
                p.summary {
                    (count(totals.families as u64)) " of " (count(limits.aggregated_families as u64)) " families, "
                    (count(totals.series as u64)) " of " (count(limits.aggregated_series as u64)) " series"
                }
            }
            @if totals.families == 0 {
                p.empty {
                    "No aggregated values yet. Pushes with " code { "?mode=aggregate" }
                    ", operations, StatsD, " code { "/create" } " and " code { "/update" } " make them."
                }
            } @else {
                (self.family_filters(&choice))
                @if families.is_empty() {
                    p.empty { "No family matches. " a href=(self.shell.link("/aggregated")) { "Show all" } }
                } @else {
                    table.lines.aggregated {
                        thead { tr {
                            (self.family_column(&choice, "Name", "name", Sort::Name))
                            (self.family_column(&choice, "Type", "kind", Sort::Kind))
                            (self.family_column(&choice, "Series", "series", Sort::Series))
                            (self.family_column(&choice, "Changed", "age", Sort::Change))
                            th.policy scope="col" { "Policy" }
                            @if has_actions { th.act scope="col" { span.hidden { "Actions" } } }
                        } }
                        tbody {
                            @for family in &families {
                                (self.family_row(family, &token, has_actions, now))
                            }
                        }
                    }
                    (pager((choice.page, families.len(), total), PAGE, |page| {
                        self.families_link(&choice, choice.sort, page)
                    }))
                }
            }
        };
        let tab = (Tab::Aggregated, "Aggregated families");
        let reply = self.shell.page(request, StatusCode::OK, tab, &content);
        Ok(match has_actions {
            true => token.add_to(&self.shell, reply),
            false => reply,
        })
    }

    fn family_filters(&self, choice: &Choice) -> Markup {
        html! {
            form.filters method="get" action=(self.shell.link("/aggregated")) role="search" {
                label.search {
                    span { "Search" }
                    input type="search" name="q" value=(choice.search) placeholder="Name of a family" autocomplete="off" spellcheck="false";
                }
                label {
                    span { "Type" }
                    select name="kind" {
                        option value="" { "all" }
                        @for kind in ["counter", "gauge", "histogram", "summary", "untyped"] {
                            option value=(kind) selected[choice.kind == kind] { (kind) }
                        }
                    }
                }
                button { "Show" }
            }
        }
    }

    fn family_column(&self, choice: &Choice, title: &str, class: &str, sort: Sort) -> Markup {
        let direction = (choice.sort == sort).then_some(match sort {
            Sort::Name | Sort::Kind => "ascending",
            Sort::Series | Sort::Change => "descending",
        });
        html! {
            th.{(class)} scope="col" aria-sort=[direction] {
                a href=(self.families_link(choice, sort, 1)) { (title) }
            }
        }
    }

    fn families_link(&self, choice: &Choice, sort: Sort, page: usize) -> String {
        let word = SORTS.iter().find(|(_, known)| *known == sort);
        let word = word.map_or("", |(word, _)| word);
        let page = if page > 1 {
            page.to_string()
        } else {
            String::new()
        };
        let parameters = [
            ("q", choice.search.as_str()),
            ("kind", choice.kind.as_str()),
            ("sort", if sort == Sort::Name { "" } else { word }),
            ("page", &page),
        ];
        self.shell.link_with("/aggregated", &parameters)
    }

    fn family_row(
        &self,
        family: &FamilySummary,
        token: &Token,
        has_actions: bool,
        now: Now,
    ) -> Markup {
        let limit = self.context.admission.aggregation.max_series_per_family;
        let name = unescape(&family.name);
        let text = self.shell.link_with("/metrics", &[("name[]", &name)]);
        let help = family.help.as_deref().unwrap_or_default();
        let help = unescape_help(help, InputFormat::Text);
        html! {
            tr {
                td.name {
                    a href=(text) { (clip_to(MAX_SHOWN, &name, "…")) }
                    @if !help.is_empty() { span.help { (clip_to(MAX_SHOWN, &help, "…")) } }
                }
                td.kind { (family.kind.as_str()) }
                td.series {
                    span.measure title={ "of " (count(limit as u64)) " (push.max_series_per_family)" } {
                        (count(family.series as u64))
                    }
                    (show::bar(family.series, limit))
                }
                td.age {
                    @match family.changed {
                        Some(at) => (show::age(now.at_tick(at), now)),
                        None => span title="Not since the start" { "–" },
                    }
                }
                td.policy { (self.policy(family)) }
                @if has_actions {
                    td.act {
                        (confirmed(&self.shell, token, Action::DeleteFamily, &name, "Delete", &format!(
                            "All {} series of this family are deleted immediately.", count(family.series as u64)
                        )))
                    }
                }
            }
        }
    }

    /// The policy of a family, and the rule that sets it.
    fn policy(&self, family: &FamilySummary) -> Markup {
        let config = &self.context.admission.aggregation;
        let rule = aggregation::rule_for(&family.name, config);
        let policy = aggregation::policy(family.kind, rule, config);
        html! {
            (policy.as_str())
            @if let Some(rule) = rule {
                span.help {
                    "rule " code { (clip(&rule.pattern)) }
                    @if !rule.drop_labels.is_empty() { ", drops " (clip(&rule.drop_labels.join(", "))) }
                }
            }
        }
    }

    fn family_json(&self, family: &FamilySummary, now: Now) -> Value {
        let config = &self.context.admission.aggregation;
        let rule = aggregation::rule_for(&family.name, config);
        let changed = family.changed.map(|at| now.at_tick(at));
        json!({
            "name": unescape(&family.name),
            "type": family.kind.as_str(),
            "help": family.help.as_deref().map(|help| unescape_help(help, InputFormat::Text)),
            "series": family.series,
            "last_change": changed.map(|at| dates::rfc3339(at.wall)),
            "policy": aggregation::policy(family.kind, rule, config).as_str(),
            "rule": rule.map(|rule| rule.pattern.as_str()),
        })
    }
}
