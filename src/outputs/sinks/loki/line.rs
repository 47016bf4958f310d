//! The text of an entry: the message as JSON, its value, or a template.

use std::fmt;
use std::io::Write as _;

use crate::event::Content;

/// The form of an entry's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// `json`: the message, as metrics-server writes it.
    Json,
    /// `value`: the value.
    Value,
    /// A template: text with names in braces.
    Template(Vec<Part>),
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// `{name}`
    Name,
    /// `{value}`
    Value,
    /// `{help}`
    Help,
    /// `{labels.NAME}`: the value of a label, empty if there is none.
    Label(String),
}

impl Line {
    /// Reads the setting.
    ///
    /// # Errors
    ///
    /// The required form, as the end of a sentence.
    pub fn parse(written: &str) -> Result<Self, String> {
        match written {
            "json" => Ok(Line::Json),
            "value" => Ok(Line::Value),
            template if template.contains('{') => template_parts(template).map(Line::Template),
            other => Err(format!(
                "must be \"json\", \"value\", or a template with names in braces such as \
                 \"{{name}}={{value}} {{labels.host}}\", not {other:?}"
            )),
        }
    }

    /// Appends the text of an entry.
    pub fn write(&self, content: &Content<'_>, out: &mut Vec<u8>) {
        match self {
            Line::Json => content.write_json(None, out),
            Line::Value => write_value(content, out),
            Line::Template(parts) => {
                for part in parts {
                    match part {
                        Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Part::Name => out.extend_from_slice(content.name.as_bytes()),
                        Part::Value => write_value(content, out),
                        Part::Help => out.extend_from_slice(content.help.as_bytes()),
                        Part::Label(name) => {
                            let mut labels = content.labels.iter();
                            let label = labels.find(|(label, _)| label == name);
                            let value = label.map_or("", |(_, value)| value);
                            out.extend_from_slice(value.as_bytes());
                        }
                    }
                }
            }
        }
    }
}

/// Appends the value of an event.
pub fn write_value(content: &Content<'_>, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{}", content.value);
}

fn template_parts(template: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        if !text.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        let Some((name, after)) = after.split_once('}') else {
            return Err(format!("has a \"{{\" without \"}}\": {template:?}"));
        };
        parts.push(match name {
            "name" => Part::Name,
            "value" => Part::Value,
            "help" => Part::Help,
            other => match other.strip_prefix("labels.") {
                Some(label) if !label.is_empty() => Part::Label(label.to_owned()),
                _ => {
                    return Err(format!(
                        "can have {{name}}, {{value}}, {{help}} and {{labels.NAME}}, not \
                         \"{{{other}}}\""
                    ));
                }
            },
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Json => f.write_str("json"),
            Line::Value => f.write_str("value"),
            Line::Template(parts) => parts.iter().try_for_each(|part| match part {
                Part::Text(text) => f.write_str(text),
                Part::Name => f.write_str("{name}"),
                Part::Value => f.write_str("{value}"),
                Part::Help => f.write_str("{help}"),
                Part::Label(name) => write!(f, "{{labels.{name}}}"),
            }),
        }
    }
}
