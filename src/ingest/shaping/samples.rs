//! Applies all steps to samples while their text is parsed.

use std::sync::Arc;

use super::step::{Outcome, Step, VerdictTouch, check, escaped};
use crate::exposition::{Labels, SampleShaper, ShapedSample, ShapedSeries, unescape};
use crate::relabel::{LabelSet, NAME_LABEL, NameScreen, Touch};

/// The steps for the samples of one text, with the classes of its names.
#[derive(Debug)]
pub struct Samples<'s> {
    steps: Vec<Step<'s>>,
    classes: Vec<Class>,
}

/// What the steps do to samples with names of one class.
#[derive(Debug)]
struct Class {
    touch: VerdictTouch,
    /// The first step that drops all of them.
    drops_at: Option<usize>,
    /// What the rules of each step can do to them.
    screens: Vec<Arc<NameScreen>>,
}

/// How many classes a new name is compared with. Most names belong to one of the first.
const COMPARED: usize = 16;

impl<'s> Samples<'s> {
    pub(super) fn new(steps: Vec<Step<'s>>) -> Self {
        Samples {
            steps,
            classes: Vec::new(),
        }
    }
}

impl Class {
    fn is_alike(&self, other: &Class) -> bool {
        let mut screens = self.screens.iter().zip(&other.screens);
        (self.touch, self.drops_at) == (other.touch, other.drops_at)
            && screens.all(|(one, other)| one.plan.is_alike(&other.plan))
    }
}

impl SampleShaper for Samples<'_> {
    fn class(&mut self, family: &str, name: &str) -> usize {
        let screens = self.steps.iter();
        let screens = screens.map(|step| step.screen.of_name(step.rules, name));
        let screens: Vec<Arc<NameScreen>> = screens.collect();
        // The text is text 0.0.4.
        let family = unescape(family);
        let touches = self.steps.iter().zip(&screens);
        let touches = touches.map(|(step, screen)| step.touch((&*family).into(), screen));
        let (mut touch, mut drops_at) = (VerdictTouch::Never, None);
        for (at, of_step) in touches.enumerate() {
            if of_step == VerdictTouch::Drop && drops_at.is_none() {
                drops_at = Some(at);
            }
            touch = touch.max(of_step);
        }
        let class = Class {
            touch,
            drops_at,
            screens,
        };
        let mut known = self.classes.iter().take(COMPARED);
        known
            .position(|known| known.is_alike(&class))
            .unwrap_or_else(|| {
                self.classes.push(class);
                self.classes.len() - 1
            })
    }

    fn can_touch(&self, class: usize, labels: &[&str]) -> bool {
        let class = &self.classes[class];
        let has_part = |part: &String| labels.iter().any(|label| label.contains(&**part));
        match class.touch {
            VerdictTouch::Never => false,
            VerdictTouch::Drop | VerdictTouch::Always => true,
            VerdictTouch::IfPresent => class.screens.iter().any(|screen| match &screen.touch {
                Touch::IfPresent(parts) => parts.iter().any(has_part),
                _ => false,
            }),
        }
    }

    fn reads(&self, label: &str) -> bool {
        self.steps.iter().any(|step| {
            step.rules.reads(label)
                || step.added.labels().iter().any(|added| added.name == label)
                || step.group.iter().any(|(name, _)| *name == label)
        })
    }

    fn shape<'l>(
        &'l self,
        class: usize,
        name: &'l str,
        labels: &Labels<'l>,
    ) -> Option<ShapedSample<'l>> {
        let class = &self.classes[class];
        let (mut set, mut before) = (LabelSet::new(), LabelSet::new());
        set.add(NAME_LABEL, unescape(name));
        for label in labels {
            set.add(unescape(label.name), unescape(label.value));
        }
        let mut changed = 0;
        let dropped = |changed| {
            let kept = None;
            Some(ShapedSample { changed, kept })
        };
        for (at, (step, screen)) in self.steps.iter().zip(&class.screens).enumerate() {
            // Under a new name, the sample can belong to another family.
            if step.does_more() && set.get(NAME_LABEL) != unescape(name) {
                return None;
            }
            if class.drops_at == Some(at) {
                return dropped(changed);
            }
            let sets = (&mut set, &mut before);
            match step.apply_to_sample(("".into(), name), Some(screen), sets) {
                Outcome::Dropped => return dropped(changed),
                Outcome::Changed if step.does_more() => {
                    check(&before, &set).ok()?;
                    changed += 1;
                }
                Outcome::Changed | Outcome::Same => {}
            }
        }
        set.sort();
        let new = set.get(NAME_LABEL);
        let new_name = (new != unescape(name)).then(|| new.to_owned());
        let labels = set.into_iter().filter(|(name, _)| name != NAME_LABEL);
        let kept = Some(ShapedSeries {
            name: new_name,
            labels: labels.map(|(name, value)| (name, escaped(value))).collect(),
        });
        Some(ShapedSample { changed, kept })
    }
}
