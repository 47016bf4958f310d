//! Gravel's label `clearmode`, with which a sender says itself what becomes of
//! a value.

use std::time::Duration;

/// The label. It is taken off before a series is looked up.
pub const LABEL: &str = "clearmode";

/// The shortest and the longest window: a hundredth of it is one step.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a `clearmode` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearMode {
    /// `aggregate`, `sum`: add to what is there.
    Add,
    /// `replace`: take the place of the series.
    Replace,
    /// `family`, `info`: this push's series take the place of all series of
    /// the family.
    Family,
    /// `mean5m`, `sum30s`, `mean1h30m`: the mean, or the sum, of what was
    /// pushed within the time.
    Window { mean: bool, span: Duration },
}

impl ClearMode {
    /// The error says what there is.
    pub fn parse(value: &str) -> Result<Self, String> {
        Ok(match value {
            "aggregate" | "sum" => ClearMode::Add,
            "replace" => ClearMode::Replace,
            "family" | "info" => ClearMode::Family,
            _ => {
                let window = [("mean", true), ("sum", false)];
                let window = window.into_iter().find_map(|(word, mean)| {
                    let span = span(value.strip_prefix(word)?)?;
                    Some(ClearMode::Window { mean, span })
                });
                window.ok_or_else(|| {
                    format!(
                        "clearmode {:?} is not known; known are aggregate, sum, replace, family, \
                         info, and mean or sum with a time from 1s to 168h, such as mean5m",
                        value.chars().take(40).collect::<String>()
                    )
                })?
            }
        })
    }
}

/// `5m`, `30s`, `1h30m`: whole numbers with units, the largest first.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut whole = Duration::ZERO;
    let mut largest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let milliseconds = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        if milliseconds >= largest {
            return None;
        }
        largest = milliseconds;
        whole = whole.checked_add(Duration::from_millis(number.checked_mul(milliseconds)?))?;
        rest = &rest[letters..];
    }
    (SHORTEST..=LONGEST).contains(&whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_what_gravel_calls_them() {
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
            // Which Gravel takes for 130 minutes.
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
    fn what_is_no_mode_is_told() {
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
            let told = ClearMode::parse(value).unwrap_err();
            assert!(told.contains("is not known; known are aggregate"), "{told}");
        }
    }
}
