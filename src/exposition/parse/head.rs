//! Lines that begin with `#`: metadata and comments.

use super::cursor::{Cursor, SHOWN};
use super::error::{LineError, ParseProblem};
use super::escape::bad_escape;
use super::{InputFormat, ParsedLine};
use crate::exposition::Kind;

const KINDS: &str = "\"counter\", \"gauge\", \"histogram\", \"summary\" or \"untyped\" alone";

impl<'t> Cursor<'t> {
    /// Reads the line from its `#` on. `None` for a comment.
    pub(super) fn head(&mut self) -> Result<Option<ParsedLine<'t>>, Box<LineError>> {
        self.at += 1;
        match self.format {
            InputFormat::Text => self.text_head(),
            InputFormat::OpenMetrics => self.open_metrics_head().map(Some),
        }
    }

    fn text_head(&mut self) -> Result<Option<ParsedLine<'t>>, Box<LineError>> {
        let start = self.at;
        self.blanks();
        // Without a blank, Prometheus' scrape parser takes the line for a
        // comment.
        let is_comment = start == self.at;
        let word = self.token();
        if !matches!(word, "HELP" | "TYPE") || self.at == self.line.len() {
            return self.comment();
        }
        self.blanks();
        if self.at == self.line.len() {
            return Ok(self.incomplete("a metric name", is_comment));
        }
        let name = self.head_name()?;
        if self.at == self.line.len() && word == "HELP" {
            return Ok(None);
        }
        if self.rest().bytes().all(|byte| matches!(byte, b' ' | b'\t')) && word == "TYPE" {
            return Ok(self.incomplete(KINDS, is_comment));
        }
        if !matches!(self.peek(), Some(b' ' | b'\t')) {
            return Err(self.unexpected("a blank after the metric's name"));
        }
        if word == "HELP" {
            self.blanks();
            return self.help(name).map(Some);
        }
        self.at += 1;
        match Kind::of_text(self.rest()) {
            Some(kind) => Ok(Some(ParsedLine::Type { name, kind })),
            None => Err(self.unexpected_rest(KINDS)),
        }
    }

    fn incomplete(&self, expected: &'static str, is_comment: bool) -> Option<ParsedLine<'t>> {
        let at = self.line.len();
        (!is_comment).then_some(ParsedLine::Incomplete { expected, at })
    }

    fn open_metrics_head(&mut self) -> Result<ParsedLine<'t>, Box<LineError>> {
        const WORDS: &str = "\"# HELP\", \"# TYPE\", \"# UNIT\" or \"# EOF\"";
        if self.line == "# EOF" {
            return Ok(ParsedLine::Eof);
        }
        self.one_blank(WORDS)?;
        let start = self.at;
        let word = self.token();
        if !matches!(word, "HELP" | "TYPE" | "UNIT") {
            self.at = start;
            return Err(self.unexpected_rest(WORDS));
        }
        self.one_blank("one blank")?;
        let name = self.head_name()?;
        self.one_blank("one blank after the metric's name")?;
        match word {
            "HELP" => self.help(name),
            "TYPE" => Kind::of_open_metrics(self.rest())
                .map(|kind| ParsedLine::Type { name, kind })
                .ok_or_else(|| {
                    self.unexpected_rest(
                        "\"counter\", \"gauge\", \"histogram\", \"gaugehistogram\", \"summary\", \
                         \"info\", \"stateset\" or \"unknown\" alone",
                    )
                }),
            _ => self.unit(name),
        }
    }

    fn head_name(&mut self) -> Result<&'t str, Box<LineError>> {
        match self.metric_name() {
            Some(name) => Ok(name),
            None if self.peek() == Some(b'"') => self.quoted_name("a metric name"),
            None => Err(self.unexpected("a metric name")),
        }
    }

    fn help(&mut self, name: &'t str) -> Result<ParsedLine<'t>, Box<LineError>> {
        let help = self.rest();
        if let Some(at) = bad_escape(help.as_bytes()) {
            self.at += at;
            return Err(self.unexpected(r#"\\, \" or \n, the only escapes"#));
        }
        Ok(ParsedLine::Help { name, help })
    }

    fn unit(&mut self, name: &'t str) -> Result<ParsedLine<'t>, Box<LineError>> {
        let unit = self.rest();
        let stem = name.strip_suffix(unit);
        if unit.is_empty() || stem.is_some_and(|stem| stem.ends_with('_')) {
            return Ok(ParsedLine::Unit { name, unit });
        }
        Err(self.unexpected_rest("a unit that the metric's name ends in, after a '_'"))
    }

    /// A comment may not have NUL in it: Prometheus' scrape parser takes it for
    /// the end of the text and silently loses the rest.
    fn comment(&mut self) -> Result<Option<ParsedLine<'t>>, Box<LineError>> {
        match memchr::memchr(0, self.line.as_bytes()) {
            None => Ok(None),
            Some(at) => {
                self.at = at;
                Err(self.unexpected("a comment without NUL"))
            }
        }
    }

    /// The error for an unexpected rest of the line.
    #[cold]
    fn unexpected_rest(&self, expected: &'static str) -> Box<LineError> {
        let rest = self.rest();
        let shown: String = rest.chars().take(SHOWN).collect();
        if shown.is_empty() {
            return self.unexpected(expected);
        }
        LineError::new(
            self.at,
            ParseProblem::unexpected(expected, format!("{shown:?}")),
        )
    }
}
