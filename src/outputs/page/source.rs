//! `/apps/{name}`: one app, target or group.

use std::sync::Arc;

use hyper::StatusCode;
use maud::{Markup, html};
use serde_json::Value;

use super::actions::{Action, confirmed, immediate};
use super::families::Exposed;
use super::shell::Tab;
use super::show::{self, count};
use super::sources;
use super::token::Token;
use super::{Page, PageResult};
use crate::clock::Now;
use crate::http::query;
use crate::http::request::Request;
use crate::outputs::kind;
use crate::outputs::listing::KINDS;
use crate::store::{FailureRun, Producer, Section, SectionId};
use crate::telemetry::{PollRecord, clip};

impl Page {
    pub(super) async fn source(&self, request: &Request) -> PageResult {
        let name = &*request.captured;
        let asked = kind::of_query(request.query(), &KINDS);
        let asked = asked.map_err(|problem| {
            let problem = clip(&problem);
            self.shell
                .failure(request, StatusCode::BAD_REQUEST, &problem)
        })?;
        let store = &self.context.store;
        let found = match asked {
            Some(kind) => {
                let id = SectionId::new(name, kind);
                store.section_of(&id).map(|section| (id, section))
            }
            None => store.section(name),
        };
        let Some((id, section)) = found else {
            let problem = format!("No app, target or group is called \"{}\".", clip(name));
            return Err(self.shell.failure(request, StatusCode::NOT_FOUND, &problem));
        };
        let after = query::value(request.query(), "after");
        let work = {
            let (store, id) = (Arc::clone(store), id.clone());
            move || Exposed::read(&store, &id, after.as_deref())
        };
        let exposed = self.on_pool(request, work).await?;
        let now = Now::read();
        let token = Token::of(&self.token_key, request.headers());
        let raw_link = self.shell.link(&show::source_path(&id, "/metrics"));
        let next_link = |after: &str| {
            let path = self.shell.link(&show::source_path(&id, ""));
            format!("{path}&after={}", show::url_text(after))
        };
        let content = html! {
            (self.shell.done(request))
            nav.path aria-label="Path" { a href=(self.shell.link("/apps")) { "Sources" } }
            div.title {
                h1.source { (show::whole_name(&id)) }
                p.summary { (id.producer.as_str()) " " (sources::state(&section)) }
            }
            @if let Some(problem) = sources::problem(&section, now) { p.problem { (problem) } }
            (self.source_facts(&id, &section, now))
            @if request.server.accepts_pushes { (self.source_actions(&id, &token)) }
            @if id.producer == Producer::Target {
                (polls(&self.context.telemetry.recent_polls(&id.name), now))
            }
            (failures(&store.failures(&id), now))
            @if request.server.accepts_pushes && let Some(settings) = self.target_settings(&id) {
                section aria-labelledby="target-settings" {
                    h2 #target-settings { "Settings" }
                    dl.facts {
                        @for (name, value) in &settings {
                            div { dt { code { (name) } } dd { (value) } }
                        }
                    }
                }
            }
            (exposed.show(&raw_link, next_link))
        };
        let title = show::plain_name(&id);
        let reply = self
            .shell
            .page(request, StatusCode::OK, (Tab::Sources, &title), &content);
        Ok(match request.server.accepts_pushes {
            true => token.add_to(&self.shell, reply),
            false => reply,
        })
    }

    fn source_facts(&self, id: &SectionId, section: &Section, now: Now) -> Markup {
        let mut facts = Vec::new();
        let updated = match section.updated {
            Some(at) => show::ago(at, now),
            None => html! { "never" },
        };
        let title = match id.producer {
            Producer::Target => "Last success",
            _ => "Last push",
        };
        facts.push((title, updated));
        if let Some(failure) = &section.problem {
            facts.push(("Last failure", show::ago(failure.at, now)));
        }
        facts.push(("From", sources::from(section)));
        let source = &section.origin.source;
        if id.producer != Producer::Target && !source.is_empty() {
            facts.push(("Received at", html! { (show::sent(source)) }));
        }
        facts.push(("Size", html! { (show::bytes(section.bytes)) }));
        if let Some(at) = section.expires(now) {
            facts.push(("Expires in", show::until(at, now)));
        }
        let json = self.shell.link(&show::source_path(id, ""));
        facts.push((
            "As JSON",
            html! { a href={ (json) "&format=json" } { "details" } },
        ));
        show::facts(&facts)
    }

    fn source_actions(&self, id: &SectionId, token: &Token) -> Markup {
        let name = &*id.name;
        html! {
            div.actions {
                @match id.producer {
                    Producer::Target => (immediate(&self.shell, token, Action::Poll, name, "Poll now")),
                    Producer::App => (confirmed(
                        &self.shell, token, Action::DeleteApp, name, "Delete",
                        "The metrics of this app are deleted immediately. Its next push creates it again.",
                    )),
                    Producer::Group => (confirmed(
                        &self.shell, token, Action::DeleteGroup, name, "Delete",
                        "The metrics of this group are deleted immediately. Its next push creates it again.",
                    )),
                    Producer::Own => (html! {}),
                }
            }
        }
    }

    /// The settings of a target, by name.
    fn target_settings(&self, id: &SectionId) -> Option<Vec<(String, String)>> {
        let is_target = id.producer == Producer::Target;
        let settings = is_target.then(|| self.context.polls.settings(&id.name))??;
        let mut flat = Vec::new();
        flatten("", &settings, &mut flat);
        Some(flat)
    }
}

/// Settings in tables, by their full names.
fn flatten(name: &str, value: &Value, flat: &mut Vec<(String, String)>) {
    match value {
        Value::Object(values) => {
            for (key, value) in values {
                match name {
                    "" => flatten(key, value, flat),
                    name => flatten(&format!("{name}.{key}"), value, flat),
                }
            }
        }
        Value::String(text) => flat.push((name.to_owned(), clip(text))),
        other => flat.push((name.to_owned(), clip(&other.to_string()))),
    }
}

/// The last polls of a target.
fn polls(polls: &[PollRecord], now: Now) -> Markup {
    let longest = polls.iter().map(|poll| poll.duration).max();
    let longest = longest.unwrap_or_default().as_micros().max(1) as usize;
    html! {
        @if !polls.is_empty() {
            section aria-labelledby="polls" {
                h2 #polls { "Last polls" }
                table.polls {
                    thead { tr {
                        th scope="col" { "When" }
                        th.wide scope="col" { "Duration" }
                        th scope="col" { "Result" }
                    } }
                    tbody {
                        @for poll in polls.iter().rev() {
                            tr {
                                td { (show::ago(now.at_tick(poll.at), now)) }
                                td.wide {
                                    span.measure { (show::duration(poll.duration)) }
                                    (plain_bar(poll.duration.as_micros() as usize, longest))
                                }
                                td {
                                    @match poll.result {
                                        Ok(()) => span.state.fresh { "ok" },
                                        Err(reason) => span.state.failing { (reason.describe()) },
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A bar that compares a value with the largest one.
fn plain_bar(value: usize, largest: usize) -> Markup {
    let width = (value as f64 / largest as f64 * 100.0).max(1.0) as usize;
    html! {
        svg.bar viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true" {
            rect width=(width) height="1" {}
        }
    }
}

/// The last failures of a source.
fn failures(runs: &[FailureRun], now: Now) -> Markup {
    html! {
        @if !runs.is_empty() {
            section aria-labelledby="failures" {
                h2 #failures { "Last problems" }
                table.lines.failures {
                    thead { tr {
                        th scope="col" { "When" }
                        th.number scope="col" { "Times" }
                        th.wide scope="col" { "Problem" }
                    } }
                    tbody {
                        @for run in runs {
                            tr {
                                td {
                                    (show::ago(run.last, now))
                                    @if run.times > 1 {
                                        span.when { " since " (show::time(run.first.wall, &show::duration(now.since(run.first)))) }
                                    }
                                }
                                td.number { (count(run.times)) }
                                td.wide { (clip(&run.reason)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
