//! Shows what `[[shape]]` does with a text, for `exporter-proxy relabel`.

use std::io::{self, Write};

use bytes::Bytes;

use super::shaping::{SenderLabels, Shaping, lenient};
use super::{Admission, Body, Group};
use crate::exposition::{ParseError, SampleLabels, Text, detect_format};
use crate::relabel::tool;
use crate::store::{MemoryBudget, SectionId};

/// The sender of a text.
#[derive(Debug)]
pub enum Sender {
    /// An app.
    App(SectionId),
    /// A target, with the labels that its samples get first.
    Target(SectionId, SampleLabels),
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
        let none = SampleLabels::default();
        let (shaping, group): (_, Vec<(&str, &str)>) = match sender {
            Sender::App(id) | Sender::Target(id, _) => {
                (Shaping::of_section(shapes, id, listener), Vec::new())
            }
            Sender::Group(group) => {
                let shaping = Shaping::of_group(shapes, group, listener);
                (shaping, group.pairs().collect())
            }
        };
        let labels = match sender {
            Sender::App(_) => SenderLabels::Target(&none),
            Sender::Target(_, labels) => SenderLabels::Target(labels),
            Sender::Group(_) => SenderLabels::Group(&group),
        };
        let stages = shaping.stages(shapes, labels);
        if !shaping.is_lenient() {
            let format = detect_format(text);
            return tool::show(&stages, format, &mut text.as_bytes(), out);
        }
        let text = lenient::tidy(text);
        let format = detect_format(&text);
        tool::show(&stages, format, &mut text.as_bytes(), out)?;
        let admitted = match (sender, listener) {
            (Sender::App(id), Some(listener)) => {
                let admitted = self.admit_from(listener, id, Text::new(&text));
                admitted.map(drop)
            }
            (Sender::App(id), None) => self.admit(id, Text::new(&text), None).map(drop),
            (Sender::Target(id, labels), _) => {
                let admitted = self.admit_with(labels, id, Text::new(&text), None, None);
                admitted.map(drop)
            }
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
