//! Finds the lines of a text that cannot be read, so that the others can be kept.

use std::hash::BuildHasher;

use super::FamilyCollector;
use crate::exposition::parse::{
    InputFormat, Labels, LimitKind, LineError, ParseError, ParseProblem, ParsedLine, Parser, offset,
};
use crate::exposition::{TextLimits, TimestampPolicy};

/// The lines of a text that cannot be read.
#[derive(Debug, Default)]
pub struct Mistakes {
    /// Their numbers, from 1, in order.
    pub lines: Vec<usize>,
    /// What is wrong with the first of them.
    pub first: Option<ParseError>,
    /// The number of samples that can be read.
    pub samples: usize,
}

impl Mistakes {
    /// Checks each line of a text.
    ///
    /// # Errors
    ///
    /// The text exceeds a limit, which is not the mistake of one line; or it is OpenMetrics that
    /// was cut off.
    pub fn find(
        text: &str,
        format: InputFormat,
        limits: &TextLimits,
        timestamps: TimestampPolicy,
        hash: &impl BuildHasher,
    ) -> Result<Self, ParseError> {
        let mut mistakes = Mistakes::default();
        let mut parser = Parser::new(text, format);
        let mut collector = FamilyCollector::new(text, format, limits, hash)?;
        let mut labels = Labels::new();
        let mut last_line = 0;
        loop {
            let read = match parser.next(&mut labels) {
                Ok(None) => break,
                // The text has ended.
                Err(error) if parser.line() == last_line => return Err(error),
                Err(error) => Err(error),
                Ok(Some(ParsedLine::Incomplete { expected, at })) => {
                    Err(parser.incomplete(expected, at))
                }
                Ok(Some(ParsedLine::Sample(sample)))
                    if timestamps == TimestampPolicy::Refuse && sample.timestamp.is_some() =>
                {
                    let found = sample.timestamp.map_or("", |it| it.text);
                    let problem = ParseProblem::Timestamp {
                        found: found.to_owned(),
                    };
                    Err(parser.error(&LineError::new(offset(sample.raw, found), problem)))
                }
                Ok(Some(line)) => collector
                    .add(&line, &mut labels, &parser)
                    .map_err(|error| parser.error(&error))
                    .map(|()| {
                        mistakes.samples += usize::from(matches!(line, ParsedLine::Sample(_)));
                    }),
            };
            last_line = parser.line();
            if let Err(error) = read {
                if is_of_text(&error) {
                    return Err(error);
                }
                mistakes.lines.push(error.line);
                mistakes.first.get_or_insert(error);
            }
        }
        Ok(mistakes)
    }
}

/// Whether a limit of the whole text is exceeded.
fn is_of_text(error: &ParseError) -> bool {
    match error.problem {
        ParseProblem::Limit { limit, .. } => matches!(
            limit,
            LimitKind::TextBytes | LimitKind::FamiliesPerText | LimitKind::SamplesPerText
        ),
        ParseProblem::TooLong { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    fn find(text: &str, format: InputFormat) -> Result<Mistakes, ParseError> {
        let limits = TextLimits {
            samples: 4,
            label_value: 20,
            ..TextLimits::default()
        };
        Mistakes::find(
            text,
            format,
            &limits,
            TimestampPolicy::Refuse,
            &RandomState::new(),
        )
    }

    #[test]
    fn each_line_that_cannot_be_read_is_found() {
        let text = "# TYPE m wrong\nm 1\nbad\nm 1\n# TYPE h histogram\nh_bucket{le=\"x\"} 1\n\
                    h_count 2\nt 1 5\n# TYPE x\nl{a=\"a value that is too long\"} 1\nlast 1";
        let found = find(text, InputFormat::Text).unwrap();
        assert_eq!(found.lines, [1, 3, 4, 6, 8, 9, 10]);
        assert_eq!(found.samples, 3);
        assert_eq!(found.first.unwrap().line, 1);
        let found = find("a 1\nb 2", InputFormat::Text).unwrap();
        assert_eq!((found.lines, found.first, found.samples), (vec![], None, 2));
    }

    #[test]
    fn limits_of_the_text_and_texts_that_are_cut_off_are_errors() {
        let found = find("a 1\nb 1\nc 1\nd 1\ne 1\n", InputFormat::Text);
        assert_eq!(found.unwrap_err().line, 5);
        let found = find("bad\na 1\n", InputFormat::OpenMetrics);
        assert_eq!(found.unwrap_err().line, 2);
        let found = find("bad\na 1\n# EOF\nmore 1\n", InputFormat::OpenMetrics).unwrap();
        assert_eq!(found.lines, [1, 4]);
    }
}
