//! Writes the pieces of canonical text: numbers, label values and help texts.

use std::fmt::Write as _;

use memchr::memchr3;

/// Writes the value of a label, escaped, without quotes.
pub fn write_label_value(out: &mut String, value: &str) {
    escape(out, value, true);
}

/// Writes a help, escaped. Carriage returns at its end are left out: they have
/// no escape, and readers would see a line that ends in CR LF.
pub fn write_help(out: &mut String, help: &str) {
    escape(out, help.trim_end_matches('\r'), false);
}

/// Escapes backslash and line feed, and quotes if `quotes` is set.
fn escape(out: &mut String, text: &str, quotes: bool) {
    let mut rest = text;
    while let Some(at) = memchr3(b'\\', b'\n', b'"', rest.as_bytes()) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(match special.as_bytes()[0] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            _ if quotes => "\\\"",
            _ => "\"",
        });
        rest = &special[1..];
    }
    out.push_str(rest);
}

/// Writes the shortest digits that read back as the same number, with an
/// exponent below -4 or above 20. Prometheus' writer uses exponents from 6 on;
/// every reader accepts both, and plain times and byte counts are easier to
/// read.
pub fn write_number(out: &mut String, value: f64) {
    // Whole numbers below 2 to the power of 53 are written five times as fast.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    let written = if value.trunc() == value && value.abs() < WHOLE && !is_minus_zero(value) {
        write!(out, "{}", value as i64)
    } else if value.is_nan() {
        write!(out, "NaN")
    } else if value.is_infinite() {
        write!(out, "{}Inf", if value > 0.0 { '+' } else { '-' })
    } else if value != 0.0 && !(1e-4..1e21).contains(&value.abs()) {
        write!(out, "{value:e}")
    } else {
        write!(out, "{value}")
    };
    written.expect("writing to a String cannot fail");
}

fn is_minus_zero(value: f64) -> bool {
    value == 0.0 && value.is_sign_negative()
}

/// A number as Prometheus' writer formats it, with exponents from 6 on.
pub fn number_text(value: f64) -> String {
    let mut out = String::new();
    write_bound(&mut out, value);
    out
}

/// Writes a bucket's bound or a quantile as the value of a label. Readers
/// compare these as text, so they equal what Prometheus' writer formats:
/// exponents below -4 and from 6 on, with a sign and at least two digits.
pub fn write_bound(out: &mut String, value: f64) {
    if !value.is_finite() || value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        return write_number(out, value);
    }
    let written = format!("{value:e}");
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let sign = if exponent < 0 { '-' } else { '+' };
    let written = write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs());
    written.expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_equal_those_of_prometheus() {
        for (value, text) in [
            (0.0, "0"),
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (2.5, "2.5"),
            (123_456.0, "123456"),
            (999_999.999_999_999_9, "999999.9999999999"),
            (1e6, "1e+06"),
            (-1_234_567.0, "-1.234567e+06"),
            (1e100, "1e+100"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = String::new();
            write_bound(&mut out, value);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn help_does_not_end_in_a_carriage_return() {
        for (help, written) in [("a\rb\r\r", "a\rb"), ("a\r\n", "a\r\\n"), ("\r", "")] {
            let mut out = String::new();
            write_help(&mut out, help);
            assert_eq!(out, written);
        }
    }

    #[test]
    fn numbers_round_trip() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (-1.0, "-1"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (1e20, "100000000000000000000"),
            (1_795_000_000.25, "1795000000.25"),
            (1e21, "1e21"),
            (0.00001, "1e-5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut out = String::new();
            write_number(&mut out, value);
            assert_eq!(out, text);
        }
    }
}
