//! Formats of dates. The clock can be set to any time: one beyond the calendar is
//! shown as seconds since 1970.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};

/// `2026-01-31 12:00:00.123456789 UTC`, with as many digits as needed.
pub fn utc(time: SystemTime) -> String {
    shown(time, |date| date.to_string())
}

/// `2026-01-31T12:00:00.123Z`: RFC 3339 with milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    shown(time, |date| {
        date.to_rfc3339_opts(SecondsFormat::Millis, true)
    })
}

/// `2026-01-31T12:00:00Z`: RFC 3339 with seconds.
pub fn second(time: SystemTime) -> String {
    shown(time, |date| date.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// `Sat, 31 Jan 2026 12:00:00 UTC`, as Go formats RFC 1123.
pub fn written_out(time: SystemTime) -> String {
    shown(time, |date| {
        date.format("%a, %d %b %Y %H:%M:%S UTC").to_string()
    })
}

/// Whether an HTTP date can represent the time: from 1970 to the year 9999.
pub fn fits_http(time: SystemTime) -> bool {
    /// The first second of the year 10000.
    const END: Duration = Duration::from_secs(253_402_300_800);
    time.duration_since(SystemTime::UNIX_EPOCH)
        .is_ok_and(|passed| passed < END)
}

fn shown(time: SystemTime, show: impl FnOnce(DateTime<Utc>) -> String) -> String {
    let (seconds, nanos) = since_1970(time);
    let date = DateTime::from_timestamp(seconds, nanos);
    date.map_or_else(|| format!("{seconds} s since 1970"), show)
}

/// Whole seconds, rounded down, and nanoseconds.
fn since_1970(time: SystemTime) -> (i64, u32) {
    let whole = |passed: Duration| i64::try_from(passed.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(passed) => (whole(passed), passed.subsec_nanos()),
        Err(before) => match (before.duration(), before.duration().subsec_nanos()) {
            (left, 0) => (-whole(left), 0),
            (left, nanos) => ((-whole(left)).saturating_sub(1), 1_000_000_000 - nanos),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_can_be_formatted() {
        let at = |seconds: i64| match u64::try_from(seconds) {
            Ok(after) => SystemTime::UNIX_EPOCH + Duration::from_secs(after),
            Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
        };
        let half = Duration::from_millis(500);
        for (time, shown, fits) in [
            (at(0), "1970-01-01T00:00:00.000Z", true),
            (at(1_769_860_800) + half, "2026-01-31T12:00:00.500Z", true),
            (at(253_402_300_799), "9999-12-31T23:59:59.000Z", true),
            (at(253_402_300_800), "+10000-01-01T00:00:00.000Z", false),
            (at(-1), "1969-12-31T23:59:59.000Z", false),
            (at(-1) + half, "1969-12-31T23:59:59.500Z", false),
            (at(1 << 60), "1152921504606846976 s since 1970", false),
            (at(i64::MAX), "9223372036854775807 s since 1970", false),
            (at(-(1 << 60)), "-1152921504606846976 s since 1970", false),
        ] {
            assert_eq!(rfc3339(time), shown);
            assert_eq!(fits_http(time), fits, "{shown}");
            for other in [utc(time), second(time), written_out(time)] {
                assert!(!other.is_empty());
            }
        }
    }
}
