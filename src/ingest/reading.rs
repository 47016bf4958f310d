//! Reads texts as families: shapes and parses them, tolerantly where the settings say so.

use super::shaping::{Layout, SenderLabels, Shaping, ShapingProblem, Skipped, lenient};
use super::{Admission, Rejection};
use crate::exposition::{
    AddedLabel, CanonicalOptions, FamilyText, InputFormat, KnownText, ParseError, TimestampPolicy,
    canonicalize_as, canonicalize_shaped, counted,
};
use crate::reason::Reason;
use crate::telemetry::sender_log::{self, About, LogEvent};

/// What is remembered of the last text of a sender, whose texts come regularly.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Its lines, so that the next text is parsed faster.
    pub text: KnownText,
    /// The reason that was logged, if lines were left out.
    pub skipped: Option<Reason>,
}

/// How a text is read.
#[derive(Debug)]
pub struct Reading<'r> {
    /// The shaping to apply before the text is parsed.
    pub shaping: Shaping<'r>,
    /// The labels of its sender, for shaping.
    pub labels: SenderLabels<'r>,
    /// Labels that samples get while they are parsed.
    pub added: &'r [AddedLabel<'r>],
    /// What to do with timestamps.
    pub timestamps: TimestampPolicy,
}

/// Why a text cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// A mistake in the text as it was sent.
    Sent(ParseError),
    /// A mistake in the text after shaping.
    Shaped(ParseError),
    /// The text cannot be shaped.
    Shaping(ShapingProblem),
}

impl ReadError {
    /// The rejection. `describe` makes one for a mistake in the text.
    pub fn reject(
        &self,
        sender: &impl std::fmt::Display,
        describe: impl FnOnce(&ParseError) -> Rejection,
    ) -> Rejection {
        match self {
            ReadError::Sent(error) => describe(error),
            ReadError::Shaped(error) => {
                let message = format!("{sender}, after shaping ([[shape]]), {error}");
                Rejection::new(Reason::from(error), &message).at(error.line, Some(error.column))
            }
            ReadError::Shaping(problem) => problem.reject(sender),
        }
    }
}

impl Admission {
    /// Reads the families of a text. `known` holds the lines of the sender's previous text, and
    /// `logged` the reason why lines of it were left out. If no entry of `[[shape]]` applies, this
    /// is [`canonicalize_as`].
    ///
    /// # Errors
    ///
    /// The text cannot be shaped or parsed, or exceeds a limit of `[exposition]`.
    pub fn read_families(
        &self,
        sender: &impl std::fmt::Display,
        text: &str,
        format: InputFormat,
        reading: &Reading<'_>,
        (known, logged): (Option<&mut KnownText>, &mut Option<Reason>),
    ) -> Result<Vec<FamilyText>, ReadError> {
        let options = CanonicalOptions {
            limits: self.text_limits(),
            added: reading.added,
            timestamps: reading.timestamps,
            hash: &self.hash,
        };
        let parse = |text: &str| canonicalize_as(text, format, &options);
        let remembers = known.is_some();
        let parse_known = |text: &str| match known {
            Some(known) => known.canonicalize(text, format, &options),
            None => parse(text),
        };
        let shaping = &reading.shaping;
        if shaping.is_empty() {
            return parse_known(text).map_err(ReadError::Sent);
        }
        let is_lenient = shaping.is_lenient();
        let sent = match is_lenient {
            true => lenient::tidy(text),
            false => text.into(),
        };
        if format == InputFormat::Text && !remembers {
            let mut samples = shaping.samples(reading.labels);
            if let Some((families, counts)) = canonicalize_shaped(&sent, &options, &mut samples) {
                self.shapes.count(counts);
                return Ok(families);
            }
        }
        let limits = (Layout::Lines, self.exposition.max_text);
        let shaped = shaping
            .apply(&sent, format, reading.labels, limits)
            .map_err(ReadError::Shaping)?;
        let mut skipped = Skipped::default();
        let read = parse_known(&shaped.text).or_else(|error| {
            if is_lenient {
                let families;
                (families, skipped) = self
                    .read_leniently(&shaped.text, format, &options)
                    .map_err(ReadError::Sent)?;
                return Ok(families);
            }
            // Report a mistake of the sender at its place in the text as sent.
            Err(match shaped.is_changed().then(|| parse(&sent)) {
                Some(Ok(_)) => ReadError::Shaped(error),
                Some(Err(error)) => ReadError::Sent(error),
                None => ReadError::Sent(error),
            })
        });
        if read.is_ok() {
            self.shapes.count(shaped.counts);
            self.note_skipped(sender, &skipped, logged);
        }
        read
    }

    /// Reads the lines that can be read, after reading the whole text failed.
    fn read_leniently(
        &self,
        text: &str,
        format: InputFormat,
        options: &CanonicalOptions<'_, impl std::hash::BuildHasher>,
    ) -> Result<(Vec<FamilyText>, Skipped), ParseError> {
        let (limits, timestamps) = (&options.limits, options.timestamps);
        let layout = match format {
            InputFormat::Text => Layout::Lines,
            InputFormat::OpenMetrics => Layout::Compact,
        };
        let cleaned = lenient::clean(text, format, limits, timestamps, options.hash, layout)?;
        let (mut text, mut skipped) =
            cleaned.unwrap_or_else(|| (text.to_owned(), Skipped::default()));
        for _ in 0..lenient::MAX_ROUNDS {
            match canonicalize_as(&text, format, options) {
                Ok(families) => return Ok((families, skipped)),
                Err(error) => {
                    text = lenient::without(&text, &[error.line], layout);
                    skipped.lines += 1;
                    skipped.first.get_or_insert(error);
                }
            }
        }
        canonicalize_as(&text, format, options).map(|families| (families, skipped))
    }

    /// Counts and logs lines left out of a text, if any. `logged` is the reason that was logged for
    /// the sender's previous text; the same reason is not logged again.
    pub(super) fn note_skipped(
        &self,
        sender: &impl std::fmt::Display,
        skipped: &Skipped,
        logged: &mut Option<Reason>,
    ) {
        let Some(first) = &skipped.first else {
            *logged = None;
            return;
        };
        self.shapes.stats.skipped.add(skipped.lines as u64);
        let reason = Reason::from(first);
        if logged.replace(reason) == Some(reason) {
            return;
        }
        let lines = counted(skipped.lines, "line was", "lines were");
        let ParseError {
            line,
            column,
            problem,
        } = first;
        let about = About::NOTHING.reason(reason);
        let event = LogEvent::SkippedLines;
        let public = problem.without_quotes();
        let message = format_args!(
            "{sender}: {lines} left out (shape.lenient); the first is line {line}, column {column}: \
             {public}"
        );
        if sender_log::write(event, about, message) {
            let details = format_args!("{sender}: the first line left out is {first}");
            sender_log::write_details(event, about, details);
        }
    }
}
