//! Writes families in text format 0.0.4, as the reference writer does.

use std::fmt::Write as _;

use super::Kind;

/// Text being written, family after family.
#[derive(Debug, Default)]
pub struct Encoder {
    out: String,
}

impl Encoder {
    /// Begins a family: its head is written, and its samples follow.
    pub fn family<'e>(&'e mut self, name: &'e str, kind: Kind, help: &str) -> Family<'e> {
        self.out.push_str("# HELP ");
        self.out.push_str(name);
        self.out.push(' ');
        escape(&mut self.out, help, false);
        self.out.push_str("\n# TYPE ");
        self.out.push_str(name);
        self.out.push(' ');
        self.out.push_str(kind.as_str());
        self.out.push('\n');
        Family {
            out: &mut self.out,
            name,
        }
    }

    pub fn into_text(self) -> String {
        self.out
    }
}

/// A family whose samples are being written.
#[derive(Debug)]
pub struct Family<'e> {
    out: &'e mut String,
    name: &'e str,
}

impl Family<'_> {
    /// Writes one sample. `labels` are to be sorted by name.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(self.name);
        let mut before = '{';
        for (name, value) in labels {
            self.out.push(before);
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(self.out, value, true);
            self.out.push('"');
            before = ',';
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        self.out.push(' ');
        number(self.out, value);
        self.out.push('\n');
    }
}

/// Escapes backslash and line feed, and in label values the quote.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// The shortest digits that read back as the same number, with an exponent
/// where it is below -4 or above 20. The reference writer begins exponents at
/// 6 digits; every reader takes both, and plain times and byte counts are for
/// people too.
fn number(out: &mut String, value: f64) {
    let written = if value.is_nan() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_a_head_and_its_samples() {
        let mut encoder = Encoder::default();
        let mut family = encoder.family("m_total", Kind::Counter, "back\\slash\nand \"quotes\"");
        family.sample(&[], 1.0);
        family.sample(&[("a", "x\"\\\n"), ("b", "é")], 0.5);
        assert_eq!(
            encoder.into_text(),
            "# HELP m_total back\\\\slash\\nand \"quotes\"\n# TYPE m_total counter\nm_total 1\nm_total{a=\"x\\\"\\\\\\n\",b=\"é\"} 0.5\n"
        );
    }

    #[test]
    fn numbers_read_back_the_same() {
        for (value, text) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (1_795_000_000.25, "1795000000.25"),
            (1e21, "1e21"),
            (0.00001, "1e-5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out, text);
        }
    }
}
