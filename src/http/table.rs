//! Formats tables for people, one batch of rows at a time, so that a long table is never in
//! memory as a whole. The columns of a batch fit its rows and all earlier ones.

use std::fmt::Write as _;

use bytes::Bytes;
use comfy_table::ColumnConstraint::LowerBoundary;
use comfy_table::{LineStyle, Table, TableStyle, Width, presets};

/// The cells of a row.
pub type Row = Vec<String>;

/// A `+---+` rule above and below every row and the header. Scripts parse this style.
const STYLE: TableStyle = {
    const RULE: LineStyle = LineStyle::new('+', '-', '+', '+');
    presets::ASCII_FULL
        .header_separator(RULE)
        .row_separator(RULE)
};

/// The padding of a cell: a space on either side.
const PADDING: u16 = 2;

/// Formats a table, given as batches of rows. Each item is the text of one batch; the
/// first includes the header, and the last is the end of the frame.
#[derive(Debug)]
pub struct TableWriter<B> {
    /// The first line of a frame around the table. Without a title there is no frame.
    title: Option<String>,
    header: &'static [&'static str],
    batches: B,
    /// The widths of the columns, without padding.
    widths: Vec<u16>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is written yet.
    Start,
    /// The header is written, perhaps with rows.
    Rows,
    /// Everything is written.
    End,
}

impl<B: Iterator<Item = Vec<Row>>> TableWriter<B> {
    /// A table of `batches`, in a frame if it has a title.
    pub fn new(title: Option<String>, header: &'static [&'static str], batches: B) -> Self {
        TableWriter {
            title,
            header,
            batches,
            widths: vec![0; header.len()],
            state: State::Start,
        }
    }

    /// Widens the columns to fit the table.
    fn measure(&mut self, table: &Table) {
        let widths = table.column_max_content_widths();
        for (width, found) in self.widths.iter_mut().zip(widths) {
            *width = (*width).max(found);
        }
    }

    fn table(&self, headed: bool, rows: &[Row]) -> Table {
        let mut table = Table::new();
        table.load_style(STYLE);
        if headed {
            table.set_header(self.header);
        }
        table.add_rows(rows);
        table
    }

    /// The lines of a batch: its rows, each with a rule below. The first batch begins with
    /// the frame, a rule and the header.
    fn lines(&mut self, first: bool, rows: &[Row]) -> Bytes {
        if rows.is_empty() && !first {
            return Bytes::new();
        }
        let mut table = self.table(first, rows);
        self.measure(&table);
        let widths = self.widths.iter();
        table.set_constraints(
            widths.map(|width| LowerBoundary(Width::Fixed(width.saturating_add(PADDING)))),
        );
        let text = table.to_string();
        let mut lines = text.lines();
        // The first line is a rule, as wide as all lines.
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

    /// The width inside the frame, without its padding.
    fn framed_width(&self) -> usize {
        let cells = self.widths.iter();
        let cells: usize = cells
            .map(|width| usize::from(*width) + usize::from(PADDING) + 1)
            .sum();
        let title = self.title.as_ref().map_or(0, String::len);
        title.max(cells + 1)
    }

    fn write_rule(&self, out: &mut String) {
        let _ = writeln!(out, "+{:-<1$}+", "", self.framed_width() + 2);
    }

    fn write_framed(&self, out: &mut String, line: &str, width: usize) {
        let padding = self.framed_width().saturating_sub(width);
        let _ = writeln!(out, "| {line}{:1$} |", "", padding);
    }
}

impl<B: Iterator<Item = Vec<Row>>> Iterator for TableWriter<B> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.state == State::End {
            return None;
        }
        let first = self.state == State::Start;
        self.state = State::Rows;
        match self.batches.next() {
            Some(rows) => Some(self.lines(first, &rows)),
            None if first => Some(self.lines(true, &[])),
            None => {
                self.state = State::End;
                let mut end = String::new();
                if self.title.is_some() {
                    self.write_rule(&mut end);
                }
                Some(Bytes::from(end))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 2] = ["Name", "Age"];

    fn row(number: usize) -> Row {
        vec!["é".repeat(20 - number), format!("{number}s")]
    }

    fn written(title: Option<&str>, batches: &[Vec<Row>]) -> String {
        let batches = batches.iter().cloned();
        let table = TableWriter::new(title.map(str::to_owned), &HEADER, batches);
        String::from_utf8(table.collect::<Vec<_>>().concat()).unwrap()
    }

    /// The same table, formatted as a whole.
    fn whole(title: Option<&str>, rows: &[Row]) -> String {
        let mut table = Table::new();
        table.load_style(STYLE).set_header(HEADER).add_rows(rows);
        let Some(title) = title else {
            return format!("{table}\n");
        };
        let mut outer = Table::new();
        outer.load_style(STYLE);
        outer.add_row([title.to_owned()]);
        outer.add_row([table.to_string()]);
        format!("{outer}\n")
    }

    #[test]
    fn batches_and_whole_tables_look_the_same() {
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
                let text = written(title, &batches);
                assert_eq!(text, whole(title, &rows), "{sizes:?}");
            }
        }
    }

    #[test]
    fn longer_rows_widen_the_table_from_their_batch_on() {
        let rows = [5, 0, 9].map(|number| vec![row(number)]);
        let text = written(Some("Now"), &rows);
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.is_sorted(), "{text}");
        for number in [5, 0, 9] {
            assert!(
                text.contains(&format!("| {} ", "é".repeat(20 - number))),
                "{text}"
            );
        }
    }
}
