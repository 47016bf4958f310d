//! Numbers with their nouns, for messages.

use std::fmt;

/// A number and what it counts: `1 group`, `2 groups`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    number: usize,
    one: &'static str,
    many: &'static str,
}

/// A number with its noun in singular or plural.
pub fn counted(number: usize, one: &'static str, many: &'static str) -> Counted {
    Counted { number, one, many }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.number == 1 {
            self.one
        } else {
            self.many
        };
        write!(f, "{} {noun}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn singular_and_plural_nouns() {
        let families = |number| counted(number, "family", "families").to_string();
        assert_eq!(families(0), "0 families");
        assert_eq!(families(1), "1 family");
        assert_eq!(families(2), "2 families");
    }
}
