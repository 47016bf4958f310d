//! `/`: the state of the proxy: problems, inputs, limits, discoveries, sinks, rejected senders.

use hyper::StatusCode;
use maud::{Markup, html};

use super::actions::{Action, immediate};
use super::issue;
use super::shell::Tab;
use super::show::{self, count};
use super::token::Token;
use super::{Page, PageResult, ShownInput, discoveries};
use crate::clock::Now;
use crate::http::request::Request;
use crate::ingest::config::Mode;
use crate::store::Producer;
use crate::telemetry::own::limited_gauges;
use crate::telemetry::{ListenerName, SinkState, SinkStats, clip, rejections};

/// The used part of a limit, in hundredths, from which on the limit is shown at first sight.
const SHOWN_FROM: usize = 1;

/// A limit and its use.
struct Bound {
    title: String,
    used: usize,
    limit: usize,
    is_bytes: bool,
    setting: String,
}

impl Bound {
    fn percent(&self) -> usize {
        show::percent(self.used, self.limit)
    }
}

impl Page {
    pub(super) async fn overview(&self, request: &Request) -> PageResult {
        let now = Now::read();
        let token = Token::of(&self.token_key, request.headers());
        let has_actions = request.server.accepts_pushes;
        let content = html! {
            (self.shell.done(request))
            h1.hidden { "Status" }
            (issue::list(&self.issues(now)))
            (self.state(has_actions.then_some(&token), now))
            div.columns {
                (self.inputs())
                (bounds(self.bounds()))
            }
            (discoveries::section(&self.context.telemetry.targets.discoveries(), now))
            (self.sinks(now))
            (rejected(now))
        };
        let reply = self
            .shell
            .page(request, StatusCode::OK, (Tab::Status, "Status"), &content);
        Ok(match has_actions {
            true => token.add_to(&self.shell, reply),
            false => reply,
        })
    }

    /// The state in a few words.
    fn state(&self, token: Option<&Token>, now: Now) -> Markup {
        let telemetry = &self.context.telemetry;
        let store = &self.context.store;
        let totals = store.totals();
        let number = |kind| count(totals.states.total(kind) as u64);
        let link = |kind: Producer| self.shell.link_with("/apps", &[("kind", kind.as_str())]);
        let sources = html! {
            a href=(link(Producer::App)) { (number(Producer::App)) " apps" } ", "
            a href=(link(Producer::Target)) { (number(Producer::Target)) " targets" } ", "
            a href=(link(Producer::Group)) { (number(Producer::Group)) " groups" }
        };
        let samples = totals.series + store.inspection_totals().samples;
        let mode = match self.context.admission.exposition.mode {
            Mode::Verbatim => "verbatim",
            Mode::Merged => "merged",
        };
        let exposed = html! {
            (count(samples as u64)) " samples, " (show::bytes(totals.bytes))
            span.when { " (" (mode) ")" }
        };
        let reloads = &telemetry.reloads;
        let loaded = now.at_unix_nanos((reloads.last_success() * 1e9) as u64);
        let configuration = html! {
            "loaded " (show::ago(loaded, now))
            @if !reloads.last_succeeded() { span.bad { ", the last reload was refused" } }
            @if let Some(token) = token { (immediate(&self.shell, token, Action::Reload, "", "Reload configuration")) }
        };
        let scrape = match telemetry.last_scrape() {
            Some(last) => html! {
                (show::ago(last.at, now)) " by " (last.peer) ", "
                (show::bytes(last.bytes as usize)) " in "
                (show::duration(telemetry.scrape_durations.last()))
            },
            None => html! { "none yet" },
        };
        let stats = &telemetry.storage;
        let storage = match stats.is_on.value() {
            0 => html! { "off: a restart begins without metrics" },
            _ => html! {
                @if self.context.journal.failure().is_some() { span.bad { "failing" } } @else { "works" }
                ", " (show::bytes(stats.disk_bytes.value())) " on the disk"
                @if stats.pending_bytes.value() > 0 { ", " (show::bytes(stats.pending_bytes.value())) " waiting" }
            },
        };
        show::facts(&[
            ("Sources", sources),
            ("Exposed", exposed),
            ("Last scrape", scrape),
            ("Storage", storage),
            ("Configuration", configuration),
            ("Version", html! { (env!("CARGO_PKG_VERSION")) }),
            (
                "Up for",
                show::time(
                    telemetry.started.wall,
                    &show::duration(now.since(telemetry.started)),
                ),
            ),
        ])
    }

    fn inputs(&self) -> Markup {
        let is_on = |input: &&ShownInput| !input.addresses.is_empty();
        let all = self.settings.inputs.iter();
        let on = all.clone().filter(is_on);
        let off: Vec<&str> = all.filter(|it| !is_on(it)).map(|it| it.title).collect();
        html! {
            section aria-labelledby="inputs" {
                h2 #inputs { "Inputs and listeners" }
                table.inputs {
                    thead { tr {
                        th.name scope="col" { "Input" }
                        th.address scope="col" { "Address" }
                        th.number scope="col" { "Open" }
                        th.number scope="col" { "Accepted" }
                    } }
                    tbody {
                        @for input in on { (self.input(input)) }
                    }
                }
                @if !off.is_empty() { p.off { "Off: " (off.join(", ")) "." } }
            }
        }
    }

    fn input(&self, input: &ShownInput) -> Markup {
        let telemetry = &self.context.telemetry;
        let stats = input.listener.map(|name| telemetry.listener(name));
        html! {
            tr {
                td.name title=(input.setting) { (input.title) }
                td.address { @for address in &input.addresses { code { (address) } " " } }
                td.number { @if let Some(stats) = stats { (count(stats.open() as u64)) } }
                td.number { @if let Some(stats) = stats { (count(stats.accepted.value())) } }
            }
        }
    }

    /// All limits with their use, the fullest first.
    fn bounds(&self) -> Vec<Bound> {
        let telemetry = &self.context.telemetry;
        let gauges = limited_gauges(telemetry, &self.context.store);
        let mut bounds: Vec<Bound> = gauges
            .into_iter()
            .map(|gauge| Bound {
                title: gauge.title.to_owned(),
                used: gauge.value,
                limit: gauge.max,
                is_bytes: gauge.is_bytes,
                setting: gauge.setting.into_owned(),
            })
            .collect();
        bounds.push(Bound {
            title: "Polled targets".to_owned(),
            used: self.context.store.totals().states.total(Producer::Target),
            limit: telemetry.limits.load().targets,
            is_bytes: false,
            setting: "poll_external.max_targets".to_owned(),
        });
        for name in ListenerName::ALL {
            let stats = telemetry.listener(name);
            if stats.max() > 0 {
                bounds.push(Bound {
                    title: format!("Connections: {}", listener_title(name)),
                    used: stats.open(),
                    limit: stats.max(),
                    is_bytes: false,
                    setting: name.setting().to_owned(),
                });
            }
        }
        for sink in telemetry.sinks() {
            let setting = sink.limit_setting();
            // The queue of operations to forward has a gauge of its own.
            if bounds
                .iter()
                .all(|bound| bound.setting != setting || setting == "fixed")
            {
                bounds.push(Bound {
                    title: format!("Queue of {}", sink.name),
                    used: sink.queued.value(),
                    limit: sink.max_queued.value(),
                    is_bytes: true,
                    setting,
                });
            }
        }
        let part = |bound: &Bound| match bound.limit {
            0 => 0.0,
            limit => bound.used as f64 / limit as f64,
        };
        bounds.sort_by(|one, other| part(other).total_cmp(&part(one)));
        bounds
    }

    fn sinks(&self, now: Now) -> Markup {
        let sinks = self.context.telemetry.sinks();
        html! {
            @if !sinks.is_empty() {
                section aria-labelledby="sinks" {
                    h2 #sinks { "Sinks" }
                    table.lines.sinks {
                        thead { tr {
                            th.state scope="col" { "State" }
                            th.name scope="col" { "Name" }
                            th.kind scope="col" { "Type" }
                            th.age scope="col" { "Last success" }
                            th.number scope="col" { "Sent" }
                            th.number scope="col" { "Dropped" }
                            th.queue scope="col" { "Queue" }
                        } }
                        @for sink in &sinks { (sink_row(sink, now)) }
                    }
                }
            }
        }
    }
}

fn listener_title(name: ListenerName) -> &'static str {
    match name {
        ListenerName::Http => "scrapes",
        ListenerName::Lifecycle => "health checks",
        ListenerName::OperationsTcp => "operations over TCP",
        ListenerName::OperationsUnix => "operations over Unix",
        ListenerName::Push => "pushes over HTTP",
        ListenerName::Tcp => "apps over TCP",
        ListenerName::Unix => "apps over Unix",
    }
}

fn bounds(bounds: Vec<Bound>) -> Markup {
    let (used, idle): (Vec<Bound>, Vec<Bound>) = bounds
        .into_iter()
        .partition(|bound| bound.percent() >= SHOWN_FROM);
    html! {
        section aria-labelledby="limits" {
            h2 #limits { "Use of limits" }
            @if used.is_empty() {
                p.empty { "Less than 1 % of each limit is used." }
            } @else {
                (bound_list(&used))
            }
            @if !idle.is_empty() {
                details {
                    summary { (count(idle.len() as u64)) " limits with less than 1 % in use" }
                    (bound_list(&idle))
                }
            }
        }
    }
}

fn bound_list(bounds: &[Bound]) -> Markup {
    let shown = |bound: &Bound, number: usize| match bound.is_bytes {
        true => show::bytes(number),
        false => count(number as u64),
    };
    html! {
        ul.bounds {
            @for bound in bounds {
                li title=(bound.setting) {
                    span.what { (bound.title) }
                    span.measure {
                        (shown(bound, bound.used)) " of " (shown(bound, bound.limit))
                        span.percent { (bound.percent()) " %" }
                    }
                    (show::bar(bound.used, bound.limit))
                }
            }
        }
    }
}

fn sink_row(sink: &SinkStats, now: Now) -> Markup {
    let health = sink.health();
    let counts = sink.items.counts();
    let of = |ok: bool| -> u64 {
        let counts = counts.iter().filter(|(result, _)| (*result == "ok") == ok);
        counts.map(|(_, count)| count).sum()
    };
    let class = match health.state {
        SinkState::Waiting => "waiting",
        SinkState::Working => "fresh",
        SinkState::Failing => "failing",
        SinkState::Stopped => "withdrawn",
    };
    html! {
        tbody {
            tr {
                td.state { span class={ "state " (class) } { (health.state.as_str()) } }
                td.name { (sink.name) }
                td.kind { (sink.kind) }
                td.age {
                    @match health.last_success {
                        Some(at) => (show::ago(at, now)),
                        None => "never",
                    }
                }
                td.number.sent { (count(of(true))) }
                td.number.dropped { (count(of(false))) }
                td.queue {
                    span.measure { (count(sink.queued_items.value() as u64)) ", " (show::bytes(sink.queued.value())) }
                    (show::bar(sink.queued.value(), sink.max_queued.value()))
                }
            }
            @if let Some((at, problem)) = &health.last_error {
                tr.why[health.state == SinkState::Failing].past[health.state != SinkState::Failing] {
                    td {} td colspan="6" { (clip(problem)) " " span.when { "(" (show::ago(*at, now)) ")" } }
                }
            }
        }
    }
}

/// The last rejected messages and requests.
fn rejected(now: Now) -> Markup {
    let last = rejections::last();
    html! {
        @if !last.is_empty() {
            section aria-labelledby="rejections" {
                h2 #rejections { "Last rejected messages and requests" }
                table.lines.rejections {
                    thead { tr {
                        th.age scope="col" { "Age" }
                        th.what scope="col" { "What" }
                        th.reason scope="col" { "Reason" }
                        th.message scope="col" { "Problem" }
                    } }
                    tbody {
                        @for rejection in &last {
                            tr {
                                td.age { (show::age(rejection.at, now)) }
                                td.what { (clip(&rejection.what)) }
                                td.reason { (rejection.reason.as_str()) }
                                td.message { (clip(&rejection.message)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
