//! Texts of blocks in which some values have changed, made from the texts
//! before: what has not changed is copied as it lies.

use memchr::{memchr_iter, memrchr};

use crate::exposition::write_number;

/// A line of a block's text, counted from 0, and the value it shows now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineValue {
    pub number: u32,
    pub value: f64,
}

/// Buffers that serve block after block.
#[derive(Debug, Default)]
pub struct RenderBuffers {
    /// Text of what is rendered, and of numbers.
    pub(super) text: String,
    patched: Vec<u8>,
}

/// `before` with other values in these lines, which ascend. `None` where it
/// does not have so many lines.
///
/// A line is all that is up to a line feed, and its value what follows the last
/// blank: labels have their line feeds escaped, and values have no blanks.
pub(super) fn patched<'s>(
    before: &[u8],
    lines: &[LineValue],
    scratch: &'s mut RenderBuffers,
) -> Option<&'s [u8]> {
    let RenderBuffers { text, patched } = scratch;
    patched.clear();
    let mut ends = memchr_iter(b'\n', before);
    let (mut copied, mut next) = (0, 0);
    for line in lines {
        let end = ends.nth(line.number.checked_sub(next)? as usize)?;
        next = line.number + 1;
        let start = memrchr(b' ', &before[..end])? + 1;
        text.clear();
        write_number(text, line.value);
        patched.extend_from_slice(&before[copied..start]);
        patched.extend_from_slice(text.as_bytes());
        copied = end;
    }
    patched.extend_from_slice(&before[copied..]);
    Some(patched)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(before: &str, lines: &[(u32, f64)]) -> Option<String> {
        let lines: Vec<LineValue> = lines
            .iter()
            .map(|(number, value)| LineValue {
                number: *number,
                value: *value,
            })
            .collect();
        let mut scratch = RenderBuffers::default();
        let text = patched(before.as_bytes(), &lines, &mut scratch)?;
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn only_the_values_of_those_lines_are_others() {
        let before = "a{l=\"x y \"} 1\nb 22\n{\"c d\"} NaN\n";
        assert_eq!(of(before, &[]).unwrap(), before);
        assert_eq!(
            of(before, &[(0, 100.0), (2, 0.5)]).unwrap(),
            "a{l=\"x y \"} 100\nb 22\n{\"c d\"} 0.5\n"
        );
        assert_eq!(
            of(before, &[(0, 1.0), (1, f64::INFINITY), (2, -1.0)]).unwrap(),
            "a{l=\"x y \"} 1\nb +Inf\n{\"c d\"} -1\n"
        );
    }

    #[test]
    fn a_text_that_lacks_a_line_is_not_patched() {
        assert_eq!(of("a 1\n", &[(1, 2.0)]), None);
        assert_eq!(of("", &[(0, 2.0)]), None);
        assert_eq!(of("a 1\nb 1\n", &[(1, 2.0), (0, 2.0)]), None);
        assert_eq!(of("a 1\nb 1\n", &[(1, 2.0), (1, 2.0)]), None);
        assert_eq!(of("a\n", &[(0, 2.0)]), None);
    }

    proptest! {
        /// Whatever changes in whatever text: it is the text with those values.
        #[test]
        fn a_patched_text_is_the_text_of_the_new_values(
            series in proptest::collection::vec(("[a-z ]{0,40}", any::<f64>(), proptest::option::of(any::<f64>())), 0..40),
        ) {
            let text = |new: bool| {
                let mut text = String::new();
                for (labels, old, changed) in &series {
                    text.push_str(&format!("m{{l=\"{labels}\"}} "));
                    write_number(&mut text, changed.filter(|_| new).unwrap_or(*old));
                    text.push('\n');
                }
                text
            };
            let lines: Vec<(u32, f64)> = (0..)
                .zip(&series)
                .filter_map(|(number, (_, _, changed))| Some((number, (*changed)?)))
                .collect();
            prop_assert_eq!(of(&text(false), &lines).unwrap(), text(true));
        }
    }
}
