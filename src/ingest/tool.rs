//! Shows what `[[shape]]` does with a text, for `exporter-proxy relabel`.

use std::io::{self, Write};

use bytes::Bytes;

use super::shaping::{Shaping, lenient};
use super::{Admission, Body, Group};
use crate::exposition::{ParseError, Text, detect_format};
use crate::relabel::tool;
use crate::store::{MemoryBudget, SectionId};

/// The sender of a text.
#[derive(Debug)]
pub enum Sender {
    /// An app or a target.
    Section(SectionId),
    /// A push to a group.
    Group(Group),
}

impl Admission {
    /// Writes each series of a text that arrives at `listener`, with the result of each step.
    /// Returns what is wrong with the lines that cannot be read. With tolerant reading, these lines
    /// are only logged, as when the text arrives.
    ///
    /// # Errors
    ///
    /// The result cannot be written; or tolerant reading rejects the text as a whole.
    pub fn show_shaping(
        &self,
        sender: &Sender,
        listener: Option<&str>,
        text: &str,
        out: &mut impl Write,
    ) -> io::Result<Vec<ParseError>> {
        let shapes = &self.shapes.list;
        let (shaping, group) = match sender {
            Sender::Section(id) => (Shaping::of_section(shapes, id, listener), Vec::new()),
            Sender::Group(group) => {
                let shaping = Shaping::of_group(shapes, group, listener);
                (shaping, group.pairs().collect())
            }
        };
        let stages = shaping.stages(shapes, &group);
        if !shaping.is_lenient() {
            let format = detect_format(text);
            return tool::show(&stages, format, &mut text.as_bytes(), out);
        }
        let text = lenient::tidy(text);
        let format = detect_format(&text);
        tool::show(&stages, format, &mut text.as_bytes(), out)?;
        let admitted = match (sender, listener) {
            (Sender::Section(id), Some(listener)) => {
                let admitted = self.admit_from(listener, id, Text::new(&text));
                admitted.map(drop)
            }
            (Sender::Section(id), None) => self.admit(id, Text::new(&text), None).map(drop),
            (Sender::Group(group), _) => {
                let body = Body {
                    content_type: "",
                    bytes: &Bytes::copy_from_slice(text.as_bytes()),
                };
                let unlimited = || MemoryBudget::UNLIMITED;
                let families = self.group_families(group, body, listener, unlimited);
                families.map(drop)
            }
        };
        admitted.map_err(|rejection| io::Error::other(rejection.message))?;
        Ok(Vec::new())
    }
}
