//! Current problems, each with a link to where it can be seen.

use std::time::Duration;

use maud::html;

use super::issue::{Issue, Level, counted};
use super::show;
use super::{Page, discoveries};
use crate::clock::Now;
use crate::store::{Producer, SectionState};
use crate::telemetry::{SinkState, clip, rejections};

/// How long a rejected sender is shown after its last message.
const REJECTION_SHOWN: Duration = Duration::from_secs(15 * 60);

impl Page {
    /// The current problems, the worst first.
    pub(super) fn issues(&self, now: Now) -> Vec<Issue> {
        let mut issues = Vec::new();
        self.storage_issues(&mut issues);
        self.source_issues(&mut issues);
        discoveries::issues(&self.context.telemetry.targets.discoveries(), &mut issues);
        self.sink_issues(&mut issues);
        self.reload_issues(&mut issues);
        self.finding_issues(&mut issues);
        self.rejection_issues(&mut issues, now);
        issues.sort_by_key(|issue| issue.level == Level::Warn);
        issues
    }

    fn storage_issues(&self, issues: &mut Vec<Issue>) {
        if let Some(failure) = self.context.journal.failure() {
            issues.push(Issue::new(
                Level::Bad,
                html! { "Storage fails: " (failure) },
            ));
        }
    }

    fn source_issues(&self, issues: &mut Vec<Issue>) {
        let states = self.context.store.totals().states;
        for (kind, one, many) in [
            (Producer::Target, "target", "targets"),
            (Producer::App, "app", "apps"),
            (Producer::Group, "group", "groups"),
        ] {
            for (state, number) in states.of(kind).filter(|(_, number)| *number > 0) {
                let (level, what) = match (state, kind) {
                    (SectionState::Failing, Producer::Target) => {
                        (Level::Bad, "never answered with metrics")
                    }
                    (SectionState::Failing, _) => (Level::Bad, "never sent valid metrics"),
                    (SectionState::Withdrawn, _) => (
                        Level::Bad,
                        "failed for too long: the last metrics are withdrawn",
                    ),
                    (SectionState::Stale, Producer::Target) => (
                        Level::Bad,
                        "failed at the last poll: the metrics before are shown",
                    ),
                    (SectionState::Stale, _) => (
                        Level::Warn,
                        "sent something invalid last: the metrics before are shown",
                    ),
                    (SectionState::Waiting | SectionState::Fresh, _) => continue,
                };
                let parameters = [("kind", kind.as_str()), ("state", state.as_str())];
                let link = self.shell.link_with("/apps", &parameters);
                let text = html! {
                    a href=(link) { (counted(number, one, many)) }
                    " " (what) "."
                };
                issues.push(Issue::new(level, text));
            }
        }
    }

    fn sink_issues(&self, issues: &mut Vec<Issue>) {
        for sink in self.context.telemetry.sinks() {
            let health = sink.health();
            if health.state == SinkState::Failing {
                let problem = health.last_error.map(|(_, problem)| problem);
                let text = html! {
                    a href="#sinks" { "Sink " (sink.name) } " fails"
                    @if let Some(problem) = problem { ": " (clip(&problem)) }
                };
                issues.push(Issue::new(Level::Bad, text));
            }
        }
    }

    fn reload_issues(&self, issues: &mut Vec<Issue>) {
        let reloads = &self.context.telemetry.reloads;
        if let Some(why) = reloads.refusal() {
            let text = html! { "The last reload was refused. " pre { (why) } };
            issues.push(Issue::new(Level::Bad, text));
        }
        let names = reloads.restart_names();
        if !names.is_empty() {
            let text = html! {
                "These settings have changed in the file and need a restart: "
                @for (place, name) in names.iter().enumerate() {
                    @if place > 0 { ", " } code { (name) }
                }
            };
            issues.push(Issue::new(Level::Warn, text));
        }
    }

    fn finding_issues(&self, issues: &mut Vec<Issue>) {
        let totals = self.context.store.inspection_totals();
        let link = self.shell.link_with("/apps", &[("state", "problem")]);
        if totals.suspects > 0 {
            let text = html! {
                a href=(link) { (counted(totals.suspects, "text", "texts")) }
                " would be rejected by Prometheus. "
                code { "exposition.validate = true" } " rejects such texts when they arrive."
            };
            issues.push(Issue::new(Level::Bad, text));
        }
        if totals.conflicts > 0 {
            let text = html! {
                a href=(link) { (counted(totals.conflicts, "conflict", "conflicts")) }
                " between families of several senders: Prometheus may drop samples. "
                code { "exposition.mode = \"merged\"" } " with "
                code { "exposition.app_label = \"app\"" } " keeps them apart."
            };
            issues.push(Issue::new(Level::Warn, text));
        }
    }

    fn rejection_issues(&self, issues: &mut Vec<Issue>, now: Now) {
        let recent = rejections::last();
        let mut recent = recent
            .iter()
            .filter(|it| now.since(it.at) < REJECTION_SHOWN);
        if let Some(last) = recent.next() {
            let text = html! {
                a href="#rejections" { "Rejected senders" } ": the last was "
                (show::ago(last.at, now)) ", " (last.reason.describe()) "."
            };
            issues.push(Issue::new(Level::Warn, text));
        }
    }
}
