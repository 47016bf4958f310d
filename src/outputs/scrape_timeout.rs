//! The time that a scraper allows for its scrape.

use std::time::Duration;

use hyper::HeaderMap;
use tokio::time::Instant;

/// The header in which Prometheus sends that time, in seconds.
const HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// The time without the header: the default of Prometheus.
const DEFAULT: Duration = Duration::from_secs(10);

/// The longest time, even if a header allows more.
const MAX: Duration = Duration::from_secs(300);

/// The time left for the response itself; less if the scraper allows little.
const OFFSET: Duration = Duration::from_millis(500);

/// When polls for the scrape must have ended, so that the response is in time.
pub fn deadline(headers: &HeaderMap) -> Instant {
    Instant::now() + time_for_polls(headers)
}

fn time_for_polls(headers: &HeaderMap) -> Duration {
    let written = headers.get(HEADER).and_then(|value| value.to_str().ok());
    let seconds = written.and_then(|it| it.trim().parse::<f64>().ok());
    let time = seconds
        .filter(|seconds| *seconds > 0.0)
        .map_or(DEFAULT, |seconds| {
            Duration::try_from_secs_f64(seconds).unwrap_or(MAX)
        });
    let time = time.min(MAX);
    time - OFFSET.min(time / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_leave_time_for_the_response() {
        for (header, expected) in [
            (None, 9500),
            (Some("10"), 9500),
            (Some("1"), 750),
            (Some("0.2"), 150),
            (Some("1e9"), 299_500),
            (Some("1e99"), 299_500),
            (Some("0"), 9500),
            (Some("-1"), 9500),
            (Some("NaN"), 9500),
            (Some("soon"), 9500),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(HEADER, header.parse().unwrap());
            }
            let expected = Duration::from_millis(expected);
            assert_eq!(time_for_polls(&headers), expected, "{header:?}");
        }
    }
}
