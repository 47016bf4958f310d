//! Numbers as Prometheus' readers accept them: Go's `ParseFloat` without its
//! newer forms. Unlike Rust's `str::parse`, it accepts no sign before `NaN`,
//! and digits that overflow are an error instead of infinity.

/// Powers of ten that a double holds exactly, as many as 15 digits need.
const TENS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

/// The value of a sample; `None` if Prometheus' readers accept no such number.
pub(in crate::exposition) fn float(text: &str) -> Option<f64> {
    match short(text.as_bytes()) {
        Some(value) => Some(value),
        None => long(text),
    }
}

/// Parses plain integers and decimals of at most 15 digits. The digits and the
/// power of ten are both exact in a double, so one division rounds correctly.
#[inline]
fn short(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut point = None;
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    let (count, fraction) = match point {
        None => (digits.len(), 0),
        Some(at) => (digits.len() - 1, digits.len() - 1 - at),
    };
    if count == 0 || count > 15 {
        return None;
    }
    let mut value = mantissa as f64;
    if fraction > 0 {
        value /= TENS[fraction];
    }
    Some(if negative { -value } else { value })
}

fn long(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is = |word: &str| unsigned.eq_ignore_ascii_case(word);
    let value: f64 = text.parse().ok()?;
    let taken = if value.is_nan() {
        unsigned.len() == text.len()
    } else {
        value.is_finite() || is("inf") || is("infinity")
    };
    taken.then_some(value)
}

/// Milliseconds in plain digits, as text 0.0.4 requires.
pub(super) fn milliseconds(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Seconds of OpenMetrics as milliseconds, truncated as Prometheus does.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let milliseconds = float(text)? * 1000.0;
    // The bounds of i64 as the nearest doubles; NaN is in no range.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
        .contains(&milliseconds)
        .then_some(milliseconds as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_that_prometheus_accepts() {
        for (text, value) in [
            ("0", 0.0),
            ("1234609", 1_234_609.0),
            ("5.", 5.0),
            (".5", 0.5),
            ("+.5", 0.5),
            ("-.5", -0.5),
            ("1e5", 1e5),
            ("1E+5", 1e5),
            ("1e-400", 0.0),
            ("0.1", 0.1),
            ("123456789012345", 123_456_789_012_345.0),
            ("1234567890123456789", 1_234_567_890_123_456_789.0),
            ("Inf", f64::INFINITY),
            ("+inf", f64::INFINITY),
            ("-INFINITY", f64::NEG_INFINITY),
        ] {
            assert_eq!(float(text), Some(value), "{text}");
        }
        assert!(float("-0").is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
        for text in ["NaN", "nan", "NAN"] {
            assert!(float(text).is_some_and(f64::is_nan), "{text}");
        }
    }

    #[test]
    fn numbers_that_prometheus_rejects() {
        for text in [
            "", ".", "-", "+", "e5", "1e", "1e400", "-1e400", "+nan", "-NaN", "infinit", "1_000",
            "0x1p4", "0x10", "1.2.3", "--1", "1 ", "1,0", "\u{661}",
        ] {
            assert_eq!(float(text), None, "{text:?}");
        }
    }

    #[test]
    fn timestamps_are_in_range() {
        assert_eq!(milliseconds("1795000000000"), Some(1_795_000_000_000));
        for text in ["", "-1", "+1", "1.5", "9223372036854775808"] {
            assert_eq!(milliseconds(text), None, "{text:?}");
        }
        assert_eq!(seconds("1.5"), Some(1500));
        assert_eq!(seconds("-0.0019"), Some(-1));
        for text in ["", "NaN", "Inf", "1e300"] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn short_numbers_equal_the_standard_parser(text in "-?[0-9]{0,17}\\.?[0-9]{0,6}") {
            if let Some(value) = short(text.as_bytes()) {
                let parsed: f64 = text.parse().expect("a number");
                prop_assert_eq!(value.to_bits(), parsed.to_bits());
            }
        }
    }
}
