//! The steps of shaping one by one, for `exporter-proxy relabel`.

use std::cell::RefCell;
use std::rc::Rc;

use super::config::Shape;
use super::step::Step;
use super::{SenderLabels, Shaping};
use crate::exposition::SampleLabels;
use crate::relabel::LabelSet;
use crate::relabel::tool::{self, Stage};

/// The labels of a group, which hide those of a sample from rules.
#[derive(Clone)]
struct Cover<'l> {
    group: &'l [(&'l str, &'l str)],
    /// The values that the current sample has itself; empty for those that it lacks.
    own: Rc<RefCell<Vec<String>>>,
}

impl Cover<'_> {
    /// Shows the labels of the group in place of the sample's own.
    fn put_on(&self, labels: &mut LabelSet<'_>) {
        let values = self
            .group
            .iter()
            .map(|(name, _)| labels.get(name).to_owned());
        *self.own.borrow_mut() = values.collect();
        self.repair(labels);
    }

    /// Shows the sample's own labels again.
    fn take_off(&self, labels: &mut LabelSet<'_>) {
        for ((name, _), own) in self.group.iter().zip(self.own.take()) {
            labels.set((*name).to_owned(), own);
        }
    }

    /// Sets the labels of the group again, which rules may have changed.
    fn repair(&self, labels: &mut LabelSet<'_>) {
        for (name, value) in self.group {
            labels.set((*name).to_owned(), (*value).to_owned());
        }
    }
}

/// A stage that adds labels to the samples themselves.
fn adding<'l>(name: String, added: &'l SampleLabels, cover: &Cover<'l>) -> Stage<'l> {
    let cover = cover.clone();
    let step = Step {
        added,
        ..Step::default()
    };
    Stage {
        name,
        apply: Box::new(move |_, labels| {
            cover.take_off(labels);
            step.add_labels(labels);
            cover.put_on(labels);
            true
        }),
    }
}

impl<'s> Shaping<'s> {
    /// The stages that each series of a sender with these `labels` goes through, to show to people.
    /// `all` are all entries.
    pub fn stages<'l>(&self, all: &[Shape], labels: SenderLabels<'l>) -> Vec<Stage<'l>>
    where
        's: 'l,
    {
        let mut stages = Vec::new();
        let group = match labels {
            SenderLabels::Group(group) => group,
            SenderLabels::Target(_) => &[],
        };
        let cover = Cover {
            group,
            own: Rc::default(),
        };
        if let SenderLabels::Target(added) = labels {
            stages.push(adding("labels of the target".to_owned(), added, &cover));
        }
        let of_group = |name: &str, apply: fn(&Cover<'_>, &mut LabelSet<'_>)| {
            let cover = cover.clone();
            Stage {
                name: name.to_owned(),
                apply: Box::new(move |_, labels| {
                    apply(&cover, labels);
                    true
                }),
            }
        };
        stages.push(of_group("labels of the group", |cover, labels| {
            cover.put_on(labels);
        }));
        for shape in &self.shapes {
            let shape = *shape;
            let place = all.iter().position(|it| std::ptr::eq(it, shape));
            let prefix = format!("shape {}, ", place.unwrap_or_default() + 1);
            stages.push(adding(format!("{prefix}labels"), &shape.labels, &cover));
            stages.push(Stage {
                name: format!("{prefix}keep and drop"),
                apply: Box::new(move |family, _| {
                    let step = Step {
                        keep: &shape.keep,
                        drop: &shape.drop,
                        ..Step::default()
                    };
                    step.keeps(family)
                }),
            });
            stages.extend(tool::stages(&shape.rules, &prefix));
            stages.push(of_group("labels of the group", |cover, labels| {
                cover.repair(labels);
            }));
        }
        stages
    }
}
