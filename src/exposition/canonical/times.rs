//! Orders the points of one series at several times.
//!
//! A server that scrapes takes each point whose time is after the one before,
//! so all of them are shown. If times are stripped, only the newest is. One series can be
//! written with and without labels that have no value.

use std::collections::{HashMap, HashSet};

/// One line of a family: the hash of its series, its time, and its line in the
/// sender's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub hash: u64,
    pub time: Option<i64>,
    pub line: usize,
}

/// The lines of a family, and the hashes of its series, each once.
pub(super) type Ordered = (String, Vec<u64>);

/// Two points of one series that cannot both be shown, since one has no time or both have
/// the same: the lines of the first and of the other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TimeConflict {
    pub first: usize,
    pub line: usize,
}

/// Orders the lines of a family so that those of one series are consecutive and
/// in order of time. With `newest`, only the newest of each series is kept.
/// `None` if every series comes once.
pub(super) fn order(
    lines: &str,
    points: &[Point],
    newest: bool,
) -> Result<Option<Ordered>, TimeConflict> {
    let mut seen = HashSet::with_capacity(points.len());
    if points.iter().all(|point| seen.insert(point.hash)) {
        return Ok(None);
    }
    let mut by_series: HashMap<u64, usize> = HashMap::new();
    let mut series: Vec<Vec<(Point, &str)>> = Vec::new();
    for (point, line) in points.iter().zip(lines.split_inclusive('\n')) {
        let place = *by_series.entry(point.hash).or_insert(series.len());
        match series.get_mut(place) {
            Some(points) => points.push((*point, line)),
            None => series.push(vec![(*point, line)]),
        }
    }
    let mut out = String::with_capacity(lines.len());
    let mut hashes = Vec::with_capacity(series.len());
    for mut points in series {
        let untimed = |(point, _): &&(Point, &str)| point.time.is_none();
        if let ([first, .., last], Some(other)) = (&*points, points.iter().rfind(untimed)) {
            let other = if other.0.line == first.0.line {
                last
            } else {
                other
            };
            return Err(TimeConflict {
                first: first.0.line,
                line: other.0.line,
            });
        }
        points.sort_by_key(|(point, _)| point.time);
        // The parser has found points that are written alike.
        let alike = |pair: &&[(Point, &str)]| pair[0].0.time == pair[1].0.time;
        if let Some([(first, _), (other, _)]) = points.windows(2).find(alike) {
            return Err(TimeConflict {
                first: first.line,
                line: other.line,
            });
        }
        let from = if newest { points.len() - 1 } else { 0 };
        hashes.extend(points.first().map(|(point, _)| point.hash));
        out.extend(points[from..].iter().map(|(_, line)| *line));
    }
    Ok(Some((out, hashes)))
}
