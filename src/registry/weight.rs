//! Estimates of memory, for the limit on all that the proxy holds.
//!
//! Each includes the text in the output and the entries of the store's index.

use super::series::SeriesState;
use super::series::window::Window;

/// Approximate memory of a series, in bytes.
pub fn series_weight(family: &str, labels: &str, state: &SeriesState) -> usize {
    const SERIES: usize = 48;
    const LINE: usize = 40 + 16;
    let more = match state {
        SeriesState::Number(_) => 0,
        SeriesState::Window(_) => Window::WEIGHT,
        SeriesState::Summary(summary) => {
            40 + summary.quantiles.as_ref().map_or(0, |it| it.weight())
        }
        SeriesState::Histogram(histogram) => {
            let bounds = histogram.bounds.len();
            let fractions = histogram.fractions.as_ref().map_or(0, |_| 8 * (bounds + 1));
            let classic = 104 + bounds * (size_of::<f64>() + 12) + fractions;
            classic + histogram.native_weight()
        }
    };
    let line = family.len() + labels.len() + LINE;
    labels.len() + SERIES + more + state.lines() * line
}

/// Approximate memory of a family without its series, in bytes.
pub fn family_weight(name: &str, help: Option<&str>) -> usize {
    const FAMILY: usize = 1536;
    FAMILY + 4 * name.len() + help.map_or(0, help_weight)
}

/// Memory of a help text, in bytes: held in the family, in the store's index of
/// families, and in the output.
pub fn help_weight(help: &str) -> usize {
    3 * help.len()
}
