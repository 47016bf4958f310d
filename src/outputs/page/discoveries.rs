//! Discoveries on the status page: where targets are found, and whether that works.

use std::sync::Arc;

use maud::{Markup, html};

use super::issue::{Issue, Level, counted};
use super::show::{self, count};
use crate::clock::Now;
use crate::telemetry::{DiscoveryStats, clip};

/// The table of discoveries; nothing if there are none.
pub fn section(discoveries: &[Arc<DiscoveryStats>], now: Now) -> Markup {
    html! {
        @if !discoveries.is_empty() {
            section aria-labelledby="discoveries" {
                h2 #discoveries { "Discoveries" }
                table.lines.discoveries {
                    thead { tr {
                        th.state scope="col" { "State" }
                        th.name scope="col" { "Name" }
                        th.from scope="col" { "Source" }
                        th.age scope="col" { "Last success" }
                        th.number scope="col" { "Targets" }
                        th.number scope="col" { "Dropped" }
                        th.number scope="col" { "Left out" }
                    } }
                    @for stats in discoveries { (row(stats, now)) }
                }
            }
        }
    }
}

fn row(stats: &DiscoveryStats, now: Now) -> Markup {
    let state = stats.state();
    let class = match state.success() {
        None => "waiting",
        Some(true) => "fresh",
        Some(false) => "failing",
    };
    html! {
        tbody {
            tr {
                td.state { span class={ "state " (class) } { (state.word()) } }
                td.name { (stats.name) }
                td.from { (clip(&stats.source)) }
                td.age {
                    @match state.last_success {
                        Some(at) => (show::ago(at, now)),
                        None => "never",
                    }
                }
                td.number.found { (count(state.targets as u64)) }
                td.number.by-rules { (count(state.dropped as u64)) }
                td.number.left-out { (count(state.rejected as u64)) }
            }
            @if let Some((problem, at)) = &state.problem {
                tr.why { td {} td colspan="6" {
                    (clip(problem)) " " span.when { "(" (show::ago(*at, now)) ")" }
                } }
            }
            @for rejection in &state.rejections {
                tr.why.warn { td {} td colspan="6" { (clip(rejection)) } }
            }
        }
    }
}

/// Adds the problems of discoveries.
pub fn issues(discoveries: &[Arc<DiscoveryStats>], issues: &mut Vec<Issue>) {
    for stats in discoveries {
        let state = stats.state();
        let link = html! { a href="#discoveries" { "Discovery " (stats.name) } };
        if let Some((problem, _)) = &state.problem {
            let text = html! {
                (link) " fails: " (clip(problem)) "; the targets that it found last are polled."
            };
            issues.push(Issue::new(Level::Bad, text));
        }
        if state.rejected > 0 {
            let entries = counted(state.rejected, "entry", "entries");
            let text = html! { (link) " leaves out " (entries) "." };
            issues.push(Issue::new(Level::Warn, text));
        }
    }
}
