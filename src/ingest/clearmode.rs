//! The label `clearmode` of the Gravel gateway, with which a sender says how a value combines with
//! its series.

use std::time::Duration;

/// The name of the label. It is removed before the series is looked up.
pub const LABEL: &str = "clearmode";

/// The limits of a window. One step of a window is a hundredth of it.
const MIN_WINDOW: Duration = Duration::from_secs(1);
const MAX_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// A value of the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearMode {
    /// `aggregate`, `sum`: adds to the series.
    Add,
    /// `replace`: replaces the series.
    Replace,
    /// `family`, `info`: the series of this push replace all series of the family.
    Family,
    /// `mean5m`, `sum30s`, `mean1h30m`: the mean or the sum of the values pushed
    /// within the time.
    Window { mean: bool, span: Duration },
}

impl ClearMode {
    /// Parses a value of the label. The error lists the known values.
    pub fn parse(value: &str) -> Result<Self, String> {
        Ok(match value {
            "aggregate" | "sum" => ClearMode::Add,
            "replace" => ClearMode::Replace,
            "family" | "info" => ClearMode::Family,
            _ => {
                let window = [("mean", true), ("sum", false)];
                let window = window.into_iter().find_map(|(word, mean)| {
                    let span = parse_span(value.strip_prefix(word)?)?;
                    Some(ClearMode::Window { mean, span })
                });
                window.ok_or_else(|| {
                    format!(
                        "clearmode {:?} is not known; use aggregate, sum, replace, family, info, \
                         or mean or sum with a time from 1s to 168h, such as mean5m",
                        value.chars().take(40).collect::<String>()
                    )
                })?
            }
        })
    }
}

/// Parses `5m`, `30s` or `1h30m`: whole numbers with units, the largest unit first.
fn parse_span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut previous_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        // In milliseconds.
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        if unit >= previous_unit {
            return None;
        }
        previous_unit = unit;
        total = total.checked_add(Duration::from_millis(number.checked_mul(unit)?))?;
        rest = &rest[letters..];
    }
    (MIN_WINDOW..=MAX_WINDOW).contains(&total).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modes_of_gravel_are_known() {
        let window = |mean, seconds| ClearMode::Window {
            mean,
            span: Duration::from_secs(seconds),
        };
        for (value, mode) in [
            ("aggregate", ClearMode::Add),
            ("sum", ClearMode::Add),
            ("replace", ClearMode::Replace),
            ("family", ClearMode::Family),
            ("info", ClearMode::Family),
            ("mean5m", window(true, 300)),
            ("sum30s", window(false, 30)),
            ("sum1h", window(false, 3600)),
            // Gravel reads this as 130 minutes.
            ("mean1h30m", window(true, 5400)),
            (
                "sum1500ms",
                ClearMode::Window {
                    mean: false,
                    span: Duration::from_millis(1500),
                },
            ),
        ] {
            assert_eq!(ClearMode::parse(value), Ok(mode), "{value}");
        }
    }

    #[test]
    fn unknown_modes_are_reported() {
        for value in [
            "",
            "mean",
            "sum5",
            "mean5d",
            "mean0s",
            "mean999h",
            "sum30m1h",
            "sum5m5m",
            "Replace",
            "mean-5m",
            "mean5 m",
            "sum99999999999999999999h",
            "meané",
        ] {
            let error = ClearMode::parse(value).unwrap_err();
            assert!(error.contains("is not known; use aggregate"), "{error}");
        }
    }
}
