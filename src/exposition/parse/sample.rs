//! Lines with a sample.

use super::cursor::Cursor;
use super::error::{LineError, ParseProblem};
use super::{InputFormat, Label, Labels, Sample, Timestamp, number};

/// The text before the `{` of an exemplar.
const EXEMPLAR: &str = " # ";

impl<'t> Cursor<'t> {
    /// Reads the line from here as a sample and puts its labels into `labels`.
    #[inline]
    pub(super) fn sample(&mut self, labels: &mut Labels<'t>) -> Result<Sample<'t>, Box<LineError>> {
        labels.clear();
        let bare = self.metric_name();
        if bare.is_some() {
            self.blanks();
        }
        let name = if self.skip(b'{') {
            self.braces(bare, labels)?
        } else {
            bare.ok_or_else(|| self.unexpected("a metric name"))?
        };
        let (value, value_text) = self.value()?;
        let timestamp = match self.format {
            _ if self.at == self.line.len() => None,
            InputFormat::Text => Some(self.milliseconds()?),
            InputFormat::OpenMetrics if self.rest().starts_with(" # {") => None,
            InputFormat::OpenMetrics => Some(self.seconds()?),
        };
        let exemplar = if self.at < self.line.len() {
            Some(self.exemplar()?)
        } else {
            None
        };
        Ok(Sample {
            name,
            value,
            value_text,
            timestamp,
            exemplar,
            raw: self.line,
        })
    }

    /// Reads the braces after their `{`: labels, and the metric's name if it
    /// did not come before them.
    #[inline]
    fn braces(
        &mut self,
        bare: Option<&'t str>,
        labels: &mut Labels<'t>,
    ) -> Result<&'t str, Box<LineError>> {
        let mut name = bare;
        loop {
            self.blanks();
            if self.skip(b'}') {
                break;
            }
            // In text 0.0.4 the name comes first: `expfmt` gives labels before
            // it to the family of the line before.
            let first = self.format == InputFormat::OpenMetrics || labels.is_empty();
            if name.is_none() && self.peek() == Some(b'"') && first {
                let start = self.at;
                let quoted = self.quoted_name("a name")?;
                self.blanks();
                if let Some(b',' | b'}') = self.peek() {
                    name = Some(quoted);
                    if self.skip(b',') {
                        continue;
                    }
                    self.skip(b'}');
                    break;
                }
                self.at = start;
            }
            if name.is_none() && self.format == InputFormat::Text {
                return Err(self.unexpected("the metric's name in quotes"));
            }
            self.pair(|label| labels.push(label))?;
            self.blanks();
            if self.skip(b',') {
                continue;
            }
            if !self.skip(b'}') {
                return Err(self.unexpected("',' or '}' after a label"));
            }
            break;
        }
        if let Some(twice) = labels.repeated() {
            return Err(LineError::new(
                super::offset(self.line, twice),
                ParseProblem::DuplicateLabel {
                    name: twice.to_owned(),
                },
            ));
        }
        name.ok_or_else(|| self.unexpected("a metric name in the braces before this"))
    }

    /// Reads one label and passes it to `each`. Returning the pair instead
    /// would put it in memory, which costs a measurable wait.
    #[inline]
    fn pair(&mut self, each: impl FnOnce(Label<'t>)) -> Result<(), Box<LineError>> {
        let start = self.at;
        let name = match self.label_name() {
            Some(name) => name,
            None if self.peek() == Some(b'"') => self.quoted_name("a label name")?,
            None => return Err(self.unexpected("a label name or '}'")),
        };
        if name == "__name__" {
            self.at = start;
            return Err(self.unexpected_token("a label other than the reserved __name__"));
        }
        self.blanks();
        if !self.skip(b'=') {
            return Err(self.unexpected("'='"));
        }
        self.blanks();
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("'\"' to begin the label's value"));
        }
        let value = self.quoted()?;
        each(Label { name, value });
        Ok(())
    }

    /// Reads the timestamp of text 0.0.4, which ends the line.
    fn milliseconds(&mut self) -> Result<Timestamp<'t>, Box<LineError>> {
        let blank = self.at;
        self.blanks();
        if self.at == self.line.len() {
            self.at = blank;
            return Err(self.unexpected("the line to end right after the value"));
        }
        let start = self.at;
        let text = self.token();
        let Some(milliseconds) = number::milliseconds(text) else {
            self.at = start;
            return Err(self.unexpected_token("a timestamp: milliseconds in plain digits"));
        };
        if self.at < self.line.len() {
            return Err(self.unexpected("the line to end right after the timestamp"));
        }
        Ok(Timestamp { milliseconds, text })
    }

    /// Reads the timestamp of OpenMetrics.
    fn seconds(&mut self) -> Result<Timestamp<'t>, Box<LineError>> {
        self.one_blank("a blank or the end of the line after the value")?;
        let start = self.at;
        let text = self.token();
        let Some(milliseconds) = number::seconds(text) else {
            self.at = start;
            return Err(self.unexpected_token("a timestamp in seconds, or an exemplar"));
        };
        Ok(Timestamp { milliseconds, text })
    }

    /// Reads the exemplar, which ends a line of OpenMetrics.
    fn exemplar(&mut self) -> Result<&'t str, Box<LineError>> {
        if !self.rest().starts_with(" # {") {
            return Err(self.unexpected("\" # {\", an exemplar, or the end of the line"));
        }
        self.at += EXEMPLAR.len();
        let start = self.at;
        self.at += 1;
        while !self.skip(b'}') {
            self.pair(|_| {})?;
            if !self.skip(b',') && self.peek() != Some(b'}') {
                return Err(self.unexpected("',' or '}' after a label"));
            }
        }
        self.value()?;
        if self.at < self.line.len() {
            self.seconds()?;
        }
        if self.at < self.line.len() {
            return Err(self.unexpected("the line to end right after the exemplar"));
        }
        let exemplar = &self.line[start..];
        if let Some(nul) = exemplar.find('\0') {
            self.at = start + nul;
            return Err(self.unexpected("an exemplar without NUL"));
        }
        Ok(exemplar)
    }
}
