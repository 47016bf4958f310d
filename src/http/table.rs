//! Tables for people, written in steps: the widths of all columns are found in
//! one pass over the rows, and the rows are written in another.

use std::fmt::Write as _;

use bytes::Bytes;
use comfy_table::ColumnConstraint::LowerBoundary;
use comfy_table::{LineStyle, Table, TableStyle, Width, presets};

/// The cells of a row.
pub type Row = Vec<String>;

/// A `+---+` rule above and below every row, the header's too: the look that
/// scripts which read these tables know.
const RULED: TableStyle = {
    const RULE: LineStyle = LineStyle::new('+', '-', '+', '+');
    presets::ASCII_FULL
        .header_separator(RULE)
        .row_separator(RULE)
};

/// What a cell has beside its content: a blank on either side.
const PADDING: u16 = 2;

/// Writes a table. `P` begins a pass over the rows, which come in batches; a
/// batch is a step. Rows may change between the passes: one that grows meanwhile
/// makes the rows of its batch wider.
pub struct Ruled<P, B> {
    /// A line in a frame around the table, where there is one.
    title: Option<String>,
    header: &'static [&'static str],
    begin: P,
    widths: Vec<u16>,
    /// Whether there was a batch.
    measured: bool,
    pass: Pass<B>,
}

enum Pass<B> {
    /// The first batch is kept while it is the only one: it may be all.
    Measuring {
        batches: B,
        only: Option<Vec<Row>>,
    },
    Writing(B),
    Closing,
    Ended,
}

impl<P, B> Ruled<P, B>
where
    P: Fn() -> B,
    B: Iterator<Item = Vec<Row>>,
{
    pub fn new(title: Option<String>, header: &'static [&'static str], begin: P) -> Self {
        let batches = begin();
        let mut ruled = Ruled {
            title,
            header,
            begin,
            widths: vec![0; header.len()],
            measured: false,
            pass: Pass::Measuring {
                batches,
                only: None,
            },
        };
        ruled.measure(&ruled.table(true, &[]));
        ruled
    }

    fn measure(&mut self, table: &Table) {
        let widths = table.column_max_content_widths();
        for (width, found) in self.widths.iter_mut().zip(widths) {
            *width = (*width).max(found);
        }
    }

    fn table(&self, headed: bool, rows: &[Row]) -> Table {
        let mut table = Table::new();
        table.load_style(RULED);
        if headed {
            table.set_header(self.header);
        }
        table.add_rows(rows);
        table
    }

    /// The lines of some rows, each with a rule below, and with the header and
    /// the rules above where they are the first.
    fn lines(&self, first: bool, rows: &[Row]) -> Bytes {
        if rows.is_empty() && !first {
            return Bytes::new();
        }
        let mut table = self.table(first, rows);
        let widths = self.widths.iter();
        table.set_constraints(
            widths.map(|width| LowerBoundary(Width::Fixed(width.saturating_add(PADDING)))),
        );
        let text = table.to_string();
        let mut lines = text.lines();
        // All lines are as wide as the rule that is the first of them.
        let width = lines.clone().next().map_or(0, str::len);
        if !first {
            lines.next();
        }
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        let Some(title) = &self.title else {
            lines.for_each(|line| out.extend([line, "\n"]));
            return Bytes::from(out);
        };
        if first {
            self.write_rule(&mut out);
            self.write_framed(&mut out, title, title.len());
            self.write_rule(&mut out);
        }
        lines.for_each(|line| self.write_framed(&mut out, line, width));
        Bytes::from(out)
    }

    /// The width inside the frame's bars and blanks.
    fn framed_width(&self) -> usize {
        let cells = self.widths.iter();
        let cells: usize = cells.map(|width| usize::from(width + PADDING) + 1).sum();
        let title = self.title.as_ref().map_or(0, String::len);
        title.max(cells + 1)
    }

    fn write_rule(&self, out: &mut String) {
        let _ = writeln!(out, "+{:-<1$}+", "", self.framed_width() + 2);
    }

    fn write_framed(&self, out: &mut String, line: &str, width: usize) {
        let blanks = self.framed_width().saturating_sub(width);
        let _ = writeln!(out, "| {line}{:1$} |", "", blanks);
    }
}

impl<P, B> Iterator for Ruled<P, B>
where
    P: Fn() -> B,
    B: Iterator<Item = Vec<Row>>,
{
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (pass, piece) = match std::mem::replace(&mut self.pass, Pass::Ended) {
            Pass::Measuring { mut batches, only } => match batches.next() {
                Some(rows) => {
                    self.measure(&self.table(false, &rows));
                    let only = (!self.measured).then_some(rows);
                    self.measured = true;
                    (Pass::Measuring { batches, only }, Bytes::new())
                }
                None if only.is_some() || !self.measured => {
                    let piece = self.lines(true, &only.unwrap_or_default());
                    (Pass::Closing, piece)
                }
                None => {
                    let mut batches = (self.begin)();
                    let piece = self.lines(true, &batches.next().unwrap_or_default());
                    (Pass::Writing(batches), piece)
                }
            },
            Pass::Writing(mut batches) => match batches.next() {
                Some(rows) => {
                    let piece = self.lines(false, &rows);
                    (Pass::Writing(batches), piece)
                }
                None => (Pass::Closing, Bytes::new()),
            },
            Pass::Closing => {
                let mut end = String::new();
                if self.title.is_some() {
                    self.write_rule(&mut end);
                }
                (Pass::Ended, Bytes::from(end))
            }
            Pass::Ended => return None,
        };
        self.pass = pass;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 2] = ["Name", "Age"];

    fn row(number: usize) -> Row {
        vec!["é".repeat(number), format!("{number}s")]
    }

    fn written(title: Option<&str>, batches: &[Vec<Row>]) -> (String, usize) {
        let batches = batches.to_vec();
        let ruled = Ruled::new(title.map(str::to_owned), &HEADER, move || {
            batches.clone().into_iter()
        });
        let pieces: Vec<Bytes> = ruled.collect();
        let text = String::from_utf8(pieces.concat()).unwrap();
        (text, pieces.len())
    }

    /// The same table made at once.
    fn whole(title: Option<&str>, rows: &[Row]) -> String {
        let mut table = Table::new();
        table.load_style(RULED).set_header(HEADER).add_rows(rows);
        let Some(title) = title else {
            return format!("{table}\n");
        };
        let mut outer = Table::new();
        outer.load_style(RULED);
        outer.add_row([title.to_owned()]);
        outer.add_row([table.to_string()]);
        format!("{outer}\n")
    }

    #[test]
    fn a_table_in_batches_looks_as_if_it_were_made_at_once() {
        for title in [
            None,
            Some("Now"),
            Some("A title that is wider than all rows"),
        ] {
            for sizes in [&[][..], &[0], &[1], &[3], &[1, 1], &[2, 0, 5], &[7, 1, 1]] {
                let rows: Vec<Row> = (0..sizes.iter().sum()).map(row).collect();
                let mut rest = rows.clone();
                let batches: Vec<Vec<Row>> = sizes
                    .iter()
                    .map(|size| rest.drain(..*size).collect())
                    .collect();
                let (text, _) = written(title, &batches);
                assert_eq!(text, whole(title, &rows), "{sizes:?}");
            }
        }
    }

    #[test]
    fn rows_that_grow_between_the_passes_keep_their_content() {
        let pass = std::cell::Cell::new(0);
        let ruled = Ruled::new(Some("Now".to_owned()), &HEADER, || {
            pass.set(pass.get() + 1);
            let longer = 30 * pass.get();
            vec![vec![row(1)], vec![row(longer)]].into_iter()
        });
        let text = String::from_utf8(ruled.collect::<Vec<_>>().concat()).unwrap();
        assert!(text.contains(&"é".repeat(60)), "{text}");
    }
}
