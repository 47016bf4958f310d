//! Rate limit for log lines.

use std::time::{Duration, Instant};

/// A token bucket for one kind of log line: a burst of lines, then one an
/// interval. It counts the lines that it suppresses.
#[derive(Debug)]
pub struct RateLimit {
    burst: u32,
    interval: Duration,
    tokens: u32,
    /// When tokens were last added; `None` before the first line.
    refilled: Option<Instant>,
    suppressed: u64,
}

impl RateLimit {
    /// A full bucket: `burst` lines at once, and another one each `interval`.
    pub const fn new(burst: u32, interval: Duration) -> Self {
        RateLimit {
            burst,
            interval,
            tokens: burst,
            refilled: None,
            suppressed: 0,
        }
    }

    /// Allows a line and returns how many were suppressed since the last one, or
    /// suppresses it and returns `None`.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if !self.has_token(now) {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }

    /// Takes the number of suppressed lines, if there are any and a line that reports them is
    /// allowed. `force` allows it in any case.
    pub fn take_suppressed(&mut self, now: Instant, force: bool) -> Option<u64> {
        if self.suppressed == 0 || !(self.has_token(now) || force) {
            return None;
        }
        self.tokens = self.tokens.saturating_sub(1);
        Some(std::mem::take(&mut self.suppressed))
    }

    /// Whether a line is allowed now.
    pub fn has_token(&mut self, now: Instant) -> bool {
        let refilled = *self.refilled.get_or_insert(now);
        let passed = now.saturating_duration_since(refilled).as_millis();
        let more = passed / self.interval.as_millis();
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(more).min(self.burst);
            self.refilled = Some(now);
        }
        self.tokens > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppressed_lines_are_counted_and_reported_later() {
        const BURST: u32 = 20;
        const INTERVAL: Duration = Duration::from_millis(500);
        let mut limit = RateLimit::new(BURST, INTERVAL);
        let start = Instant::now();
        for _ in 0..BURST {
            assert_eq!(limit.allow(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(limit.allow(start), None);
        }
        assert_eq!(limit.take_suppressed(start, false), None);
        let later = start + INTERVAL;
        assert_eq!(limit.allow(later), Some(1000));
        assert_eq!(limit.allow(later), None);
        assert_eq!(limit.take_suppressed(later, false), None);
        assert_eq!(limit.take_suppressed(later + INTERVAL, false), Some(1));
        assert_eq!(limit.take_suppressed(later + INTERVAL, true), None);
        assert_eq!(limit.allow(later + INTERVAL), None);
        assert_eq!(limit.take_suppressed(later + INTERVAL, true), Some(1));
        // A long pause allows only one burst.
        let much_later = later + INTERVAL * 10 * BURST;
        let allowed = (0..2 * BURST).filter(|_| limit.allow(much_later).is_some());
        assert_eq!(allowed.count(), BURST as usize);
    }
}
