//! A problem, and how a list of problems is shown.

use maud::{Markup, html};

use super::show::count;

/// A count with its noun.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{} {noun}", count(number as u64))
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Metrics are missing or changes are lost.
    Bad,
    /// Something may be missing soon, or is not as it should be.
    Warn,
}

/// A problem.
#[derive(Debug)]
pub struct Issue {
    /// How bad it is.
    pub level: Level,
    text: Markup,
}

impl Issue {
    /// Creates one.
    pub fn new(level: Level, text: Markup) -> Self {
        Issue { level, text }
    }
}

/// All problems as a list, or one line if there are none.
pub fn list(issues: &[Issue]) -> Markup {
    html! {
        @if issues.is_empty() {
            p.all-well { "Nothing needs attention." }
        } @else {
            ul.issues aria-label="Needs attention" {
                @for issue in issues {
                    li class=(match issue.level { Level::Bad => "bad", Level::Warn => "warn" }) {
                        (issue.text)
                    }
                }
            }
        }
    }
}
