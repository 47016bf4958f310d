//! Shows what `[[shape]]` does with a text, for `exporter-proxy relabel`.

use std::io::{self, Write};

use bytes::Bytes;

use super::shaping::{SenderLabels, Shaping, lenient};
use super::{Admission, Body, Group};
use crate::exposition::{ParseError, SampleLabels, Text, detect_format};
use crate::relabel::tool;
use crate::store::{MemoryLeft, SectionId};

/// The sender of a text.
#[derive(Debug)]
pub enum ShownSender {
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
        sender: &ShownSender,
        listener: Option<&str>,
        text: &str,
        out: &mut impl Write,
    ) -> io::Result<Vec<ParseError>> {
        let shapes = &self.shapes.list;
        let none = SampleLabels::default();
        let (shaping, group): (_, Vec<(&str, &str)>) = match sender {
            ShownSender::App(id) | ShownSender::Target(id, _) => {
                (Shaping::of_section(shapes, id, listener), Vec::new())
            }
            ShownSender::Group(group) => {
                let shaping = Shaping::of_group(shapes, group, listener);
                (shaping, group.pairs().collect())
            }
        };
        let labels = match sender {
            ShownSender::App(_) => SenderLabels::Target(&none),
            ShownSender::Target(_, labels) => SenderLabels::Target(labels),
            ShownSender::Group(_) => SenderLabels::Group(&group),
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
            (ShownSender::App(id), Some(listener)) => {
                let admitted = self.admit_from(listener, id, Text::new(&text));
                admitted.map(drop)
            }
            (ShownSender::App(id), None) => self.admit(id, Text::new(&text), None).map(drop),
            (ShownSender::Target(id, labels), _) => {
                let admitted = self.admit_with(labels, id, Text::new(&text), None, None);
                admitted.map(drop)
            }
            (ShownSender::Group(group), _) => {
                let body = Body {
                    content_type: "",
                    bytes: &Bytes::copy_from_slice(text.as_bytes()),
                };
                let unlimited = || MemoryLeft::UNLIMITED;
                let families = self.group_families(group, body, listener, unlimited);
                families.map(drop)
            }
        };
        admitted.map_err(|rejection| io::Error::other(rejection.message))?;
        Ok(Vec::new())
    }
}
