//! Rules with globs, as a tree of the parts between dots.
//!
//! At each part, a name follows both the branch of the part itself and that of `*`. Paths
//! end where no rule goes on, so a look-up costs at most the size of the tree, and usually
//! the number of parts.

use std::collections::HashMap;

use super::SourceType;

/// Stands for no rule.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Globs {
    nodes: Vec<Node>,
    /// The positions of the stars of each rule, by its number.
    stars: HashMap<u32, Box<[usize]>>,
    /// Whether the first matching rule of the file wins, rather than the one with the most
    /// exact parts.
    ordered: bool,
}

#[derive(Debug)]
struct Node {
    parts: HashMap<Box<str>, usize>,
    star: Option<usize>,
    /// The rules that end here, by type.
    rules: [u32; SourceType::COUNT],
    /// The first rule that ends here or below, by type.
    first: [u32; SourceType::COUNT],
}

impl Node {
    fn new() -> Self {
        Node {
            parts: HashMap::new(),
            star: None,
            rules: [NONE; SourceType::COUNT],
            first: [NONE; SourceType::COUNT],
        }
    }
}

impl Globs {
    pub(super) fn new(ordered: bool) -> Self {
        Globs {
            nodes: vec![Node::new()],
            stars: HashMap::new(),
            ordered,
        }
    }

    /// Adds a rule for values of one type, or of all types. Of equal globs, the first one counts.
    pub(super) fn add(&mut self, glob: &str, source: Option<SourceType>, rule: u32) {
        let types = |rules: &mut [u32; SourceType::COUNT]| match source {
            Some(source) => rules[source as usize] = rules[source as usize].min(rule),
            None => rules.iter_mut().for_each(|first| *first = rule.min(*first)),
        };
        let (mut at, mut stars) = (0, Vec::new());
        types(&mut self.nodes[0].first);
        for (place, part) in glob.split('.').enumerate() {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            at = if part == "*" {
                stars.push(place);
                *node.star.get_or_insert(next)
            } else {
                *node.parts.entry(Box::from(part)).or_insert(next)
            };
            if at == next {
                self.nodes.push(Node::new());
            }
            types(&mut self.nodes[at].first);
        }
        types(&mut self.nodes[at].rules);
        self.stars.insert(rule, stars.into());
    }

    /// Finds the rule for a name.
    pub(super) fn find(&self, name: &str, source: SourceType) -> Option<u32> {
        let mut best = NONE;
        self.search(0, Some(name), source as usize, &mut best);
        (best != NONE).then_some(best)
    }

    /// The parts of a name that the stars of its rule match.
    pub(super) fn captures<'n>(&self, rule: u32, name: &'n str) -> Vec<&'n str> {
        let Some(stars) = self.stars.get(&rule) else {
            return Vec::new();
        };
        let (mut parts, mut next) = (name.split('.'), 0);
        let captures = stars.iter().map(|place| {
            let part = parts.nth(place - next);
            next = place + 1;
            part.unwrap_or_default()
        });
        captures.collect()
    }

    /// Searches below a node for a better rule than `best`. `rest` is the rest of the name.
    fn search(&self, node: usize, rest: Option<&str>, kind: usize, best: &mut u32) {
        let node = &self.nodes[node];
        if node.first[kind] >= *best {
            return;
        }
        let Some(rest) = rest else {
            *best = node.rules[kind].min(*best);
            return;
        };
        let (part, rest) = match rest.split_once('.') {
            Some((part, rest)) => (part, Some(rest)),
            None => (rest, None),
        };
        for next in [node.parts.get(part).copied(), node.star]
            .into_iter()
            .flatten()
        {
            self.search(next, rest, kind, best);
            if !self.ordered && *best != NONE {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn globs(ordered: bool, globs: &[String]) -> Globs {
        let mut tree = Globs::new(ordered);
        for (rule, glob) in (0..).zip(globs) {
            tree.add(glob, None, rule);
        }
        tree
    }

    fn matches(glob: &str, name: &str) -> bool {
        let (glob, name): (Vec<&str>, Vec<&str>) =
            (glob.split('.').collect(), name.split('.').collect());
        let fits = |(glob, name): (&&str, &&str)| *glob == "*" || glob == name;
        glob.len() == name.len() && glob.iter().zip(&name).all(fits)
    }

    #[test]
    fn a_rule_for_one_type_leaves_the_others_to_later_rules() {
        let mut tree = Globs::new(true);
        tree.add("a.*", Some(SourceType::Counter), 0);
        tree.add("a.*", None, 1);
        assert_eq!(tree.find("a.b", SourceType::Counter), Some(0));
        assert_eq!(tree.find("a.b", SourceType::Gauge), Some(1));
        assert_eq!(tree.find("a", SourceType::Gauge), None);
        assert_eq!(tree.find("a.b.c", SourceType::Gauge), None);
    }

    proptest! {
        /// The tree finds the same rule as comparing each rule in turn.
        #[test]
        fn the_first_rule_that_matches_is_found(
            rules in proptest::collection::vec("(a|b|\\*)(\\.(a|b|\\*)){0,4}", 0..30),
            name in "(a|b|c|)(\\.(a|b|c|)){0,4}",
        ) {
            let tree = globs(true, &rules);
            let expected = rules.iter().position(|rule| matches(rule, &name));
            let found = tree.find(&name, SourceType::Observer);
            prop_assert_eq!(found.map(|rule| rule as usize), expected);
            if let Some(rule) = found {
                let glob = &rules[rule as usize];
                let stars = glob.split('.').zip(name.split('.')).filter(|(part, _)| *part == "*");
                let stars: Vec<&str> = stars.map(|(_, part)| part).collect();
                prop_assert_eq!(tree.captures(rule, &name), stars);
            }
            // Without an order, exact parts come first.
            let kind = |rule: &&String| {
                let parts = rule.split('.').map(|part| part == "*");
                parts.collect::<Vec<bool>>()
            };
            let most_exact = rules.iter().filter(|rule| matches(rule, &name)).min_by_key(kind);
            let found = globs(false, &rules).find(&name, SourceType::Observer);
            prop_assert_eq!(found.map(|rule| &rules[rule as usize]), most_exact);
        }
    }
}
