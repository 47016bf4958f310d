//! Replaces values in a rendered text, and copies everything else.

use memchr::{memchr_iter, memrchr};

use super::{LineValue, RenderBuffers};
use crate::exposition::write_number;

/// `before` with new values in `lines`, which ascend. `None` if a line does not
/// exist, or has no value.
///
/// A line ends with a line feed, and its value follows its last space: line
/// feeds in labels are escaped, and values have no spaces.
pub(super) fn patch<'b>(
    before: &[u8],
    lines: &[LineValue],
    buffers: &'b mut RenderBuffers,
) -> Option<&'b [u8]> {
    let RenderBuffers { text, patched } = buffers;
    patched.clear();
    let mut ends = memchr_iter(b'\n', before);
    let (mut copied, mut next) = (0, 0);
    for line in lines {
        let end = ends.nth(line.line.checked_sub(next)? as usize)?;
        next = line.line + 1;
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

    fn patched_text(before: &str, lines: &[(u32, f64)]) -> Option<String> {
        let lines = lines.iter();
        let lines = lines.map(|&(line, value)| LineValue { line, value });
        let lines: Vec<LineValue> = lines.collect();
        let mut buffers = RenderBuffers::default();
        let text = patch(before.as_bytes(), &lines, &mut buffers)?;
        Some(String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn only_the_values_of_the_lines_change() {
        let before = "a{l=\"x y \"} 1\nb 22\n{\"c d\"} NaN\n";
        assert_eq!(patched_text(before, &[]).unwrap(), before);
        assert_eq!(
            patched_text(before, &[(0, 100.0), (2, 0.5)]).unwrap(),
            "a{l=\"x y \"} 100\nb 22\n{\"c d\"} 0.5\n"
        );
        assert_eq!(
            patched_text(before, &[(0, 1.0), (1, f64::INFINITY), (2, -1.0)]).unwrap(),
            "a{l=\"x y \"} 1\nb +Inf\n{\"c d\"} -1\n"
        );
    }

    #[test]
    fn a_text_without_such_a_line_is_not_patched() {
        assert_eq!(patched_text("a 1\n", &[(1, 2.0)]), None);
        assert_eq!(patched_text("", &[(0, 2.0)]), None);
        assert_eq!(patched_text("a 1\nb 1\n", &[(1, 2.0), (0, 2.0)]), None);
        assert_eq!(patched_text("a 1\nb 1\n", &[(1, 2.0), (1, 2.0)]), None);
        assert_eq!(patched_text("a\n", &[(0, 2.0)]), None);
    }

    proptest! {
        /// A patched text equals a text rendered from the new values.
        #[test]
        fn patching_equals_rendering(
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
            prop_assert_eq!(patched_text(&text(false), &lines).unwrap(), text(true));
        }
    }
}
