//! Points of one series at several times: brought together, in order of time.
//!
//! A server that scrapes takes each point whose time is after the one before,
//! so all of them are shown. Where times are stripped, only the newest is.

use std::collections::{HashMap, HashSet};

use crate::exposition::series::series_of;

/// One line of a family: what its series is known by, its time and its line in
/// the sender's text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub hash: u64,
    pub time: Option<i64>,
    pub line: usize,
}

/// Lines of a family, and the hashes of its series, each once.
pub(super) type Ordered = (String, Vec<u64>);

/// Points that cannot both be shown, since one of them has no time: the lines
/// of the first and of the other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Twice {
    pub first: usize,
    pub line: usize,
}

/// The lines of a family, each of a point, with those of one series in order of
/// time; only the `newest` of each where that is asked for. `None` where no
/// series is there twice.
pub(super) fn order(lines: &str, points: &[Point], newest: bool) -> Result<Option<Ordered>, Twice> {
    if points.iter().all(|point| point.time.is_none()) {
        return Ok(None);
    }
    let mut seen = HashSet::with_capacity(points.len());
    if points.iter().all(|point| seen.insert(point.hash)) {
        return Ok(None);
    }
    let mut by_series: HashMap<&str, usize> = HashMap::new();
    let mut series: Vec<Vec<(Point, &str)>> = Vec::new();
    for (point, line) in points.iter().zip(lines.split_inclusive('\n')) {
        let place = *by_series.entry(series_of(line)).or_insert(series.len());
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
            return Err(Twice {
                first: first.0.line,
                line: other.0.line,
            });
        }
        points.sort_by_key(|(point, _)| point.time);
        let from = if newest { points.len() - 1 } else { 0 };
        hashes.extend(points.first().map(|(point, _)| point.hash));
        out.extend(points[from..].iter().map(|(_, line)| *line));
    }
    Ok(Some((out, hashes)))
}
