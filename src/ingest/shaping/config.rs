//! `[[shape]]`: changes to metrics before they are stored.

use std::net::SocketAddr;

use serde::{Serialize, Serializer};

use crate::exposition::SampleLabels;
use crate::ingest::added_labels;
use crate::ingest::selector::Selectors;
use crate::relabel::{self, Rules, RulesFile, Screen};
use crate::settings::document::Node;
use crate::settings::pattern::{Pattern, pattern};
use crate::settings::reader::Table;
use crate::settings::value::{boolean, choice, text};

/// Maximum number of entries, since each push checks every entry.
pub const MAX_SHAPES: usize = 100;

/// An entry of `[[shape]]`: changes to some of the incoming metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// The metrics that it applies to; all if nothing is given.
    #[serde(flatten)]
    pub selection: Selection,
    /// Labels to add to samples.
    #[serde(
        skip_serializing_if = "SampleLabels::is_empty",
        serialize_with = "added_labels::write"
    )]
    pub labels: SampleLabels,
    /// Whether a label of a sample wins over one of `labels`.
    #[serde(skip_serializing_if = "is_false")]
    pub honor_labels: bool,
    /// Patterns of families to keep; all if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<Pattern>,
    /// Patterns of families to drop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<Pattern>,
    /// A file with rules, which are applied first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_relabel_file: Option<RulesFile>,
    /// Rules for the labels of samples.
    #[serde(skip_serializing_if = "Rules::is_empty")]
    pub metric_relabel: Rules,
    /// Whether to keep the readable lines of a text if others cannot be read.
    #[serde(skip_serializing_if = "is_false")]
    pub lenient: bool,
    /// All rules: those of the file, then `metric_relabel`.
    #[serde(skip)]
    pub rules: Rules,
    /// What the rules can do, by the name of a metric.
    #[serde(skip)]
    pub screen: Screen,
}

/// The metrics that an entry applies to: those that meet any of the conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Selection {
    /// All metrics of these inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// Patterns of the names of apps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<Pattern>,
    /// Patterns of the names of targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Pattern>,
    /// Selectors of pushed groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSelector>,
    /// Patterns of the addresses and paths of listeners.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Pattern>,
}

/// Where metrics come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// Texts of apps, over sockets.
    Apps,
    /// Texts of targets that are polled.
    Targets,
    /// Pushes to groups.
    Groups,
    /// Pushes that are added up.
    Aggregate,
    /// Operations and StatsD lines.
    Operations,
}

impl Input {
    /// Whether its values are added up. Its messages are never read tolerantly: if a part of one
    /// counted, a sender could not correct the rest and send it again.
    pub fn is_added_up(self) -> bool {
        matches!(self, Input::Aggregate | Input::Operations)
    }
}

/// A selector of groups by their labels.
#[derive(Debug, Clone)]
pub struct GroupSelector {
    text: String,
    /// The compiled selector.
    pub selectors: Selectors,
}

impl PartialEq for GroupSelector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for GroupSelector {}

impl Serialize for GroupSelector {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Takes `[[shape]]` out of the whole document.
pub fn take(root: &mut Table<'_>) -> Vec<Shape> {
    let place = root.place("shape");
    let shapes = root.take_tables("shape", |table, _| Some(read(table)));
    if let Some(place) = place.filter(|_| shapes.len() > MAX_SHAPES) {
        let count = shapes.len();
        let problem = format!("`shape` has {count} entries; the limit is {MAX_SHAPES}");
        root.fault(place, problem);
    }
    shapes
}

fn read(mut table: Table<'_>) -> Shape {
    const EFFECTS: [&str; 6] = [
        "labels",
        "keep",
        "drop",
        "metric_relabel",
        "metric_relabel_file",
        "lenient",
    ];
    let own = table.own_place().cloned();
    let has_effect = EFFECTS.iter().any(|key| table.place(key).is_some());
    let [honor_place, lenient_place] = ["honor_labels", "lenient"].map(|key| table.place(key));
    let inputs = &[
        ("apps", Input::Apps),
        ("targets", Input::Targets),
        ("groups", Input::Groups),
        ("aggregate", Input::Aggregate),
        ("operations", Input::Operations),
    ];
    let selection = Selection {
        inputs: table.take_list("inputs", choice(inputs)),
        apps: table.take_list("apps", pattern),
        targets: table.take_list("targets", pattern),
        groups: table.take_list("groups", group),
        listeners: table.take_list("listeners", listener),
    };
    let labels = added_labels::take(&mut table);
    let honor_labels = table.take("honor_labels", false, boolean);
    // `take` has checked them.
    let labels = added_labels::sample_labels(&labels, honor_labels).unwrap_or_default();
    let keep = table.take_list("keep", pattern);
    let drop = table.take_list("drop", pattern);
    let metric_relabel_file = relabel::take_file(&mut table, "metric_relabel_file");
    let metric_relabel = relabel::take(&mut table, "metric_relabel");
    let lenient = table.take("lenient", false, boolean);
    if let Some(place) = own.filter(|_| !has_effect) {
        let problem = "an entry of `shape` needs `labels`, `keep`, `drop`, `metric_relabel`, \
                       `metric_relabel_file` or `lenient`";
        table.fault(place, problem);
    }
    if let Some(place) = honor_place.filter(|_| honor_labels && labels.is_empty()) {
        table.fault(place, "`shape.honor_labels` requires `shape.labels`");
    }
    let has_added_up = selection.inputs.iter().any(|input| input.is_added_up());
    if let Some(place) = lenient_place.filter(|_| lenient && has_added_up) {
        let problem = "`shape.lenient` is for apps, targets and groups; a message with values \
                       that are added up counts as a whole or not at all";
        table.fault(place, problem);
    }
    table.finish();
    let rules = match &metric_relabel_file {
        Some(file) => file.rules.followed_by(&metric_relabel),
        None => metric_relabel.clone(),
    };
    Shape {
        selection,
        labels,
        honor_labels,
        keep,
        drop,
        metric_relabel_file,
        metric_relabel,
        lenient,
        screen: Screen::new(&rules),
        rules,
    }
}

/// Whether a text can be the address that a listener is bound to, or the path of a Unix socket.
pub fn is_place(text: &str) -> bool {
    let is_path = text.contains('/') || !text.contains(':') && !text.is_empty();
    is_path || text.parse::<SocketAddr>().is_ok()
}

/// A pattern of addresses as listeners are bound, and of paths.
fn listener(node: &Node) -> Result<Pattern, String> {
    let written = text(node)?;
    match written.contains('*') || is_place(&written) {
        true => Ok(Pattern::new(written)),
        false => Err(format!(
            "must be the address that a listener is bound to, such as \"127.0.0.1:6556\" or \
             \"*:6556\", or the path of a Unix socket, not {written:?}"
        )),
    }
}

fn group(node: &Node) -> Result<GroupSelector, String> {
    let text = text(node)?;
    let selectors = Selectors::for_group_setting(&text)?;
    Ok(GroupSelector { text, selectors })
}
