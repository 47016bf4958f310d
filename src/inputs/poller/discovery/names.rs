//! Names for found targets: unique, of limited length, and the same whenever a target is
//! found again.

use std::collections::{BTreeMap, HashSet};

use url::Url;
use xxhash_rust::xxh3::xxh3_64;

use super::found::Found;
use crate::inputs::poller::config::target::{MAX_NAME, TargetUrl};

/// The length of a hash in a name, including the separator.
const HASH_LENGTH: usize = " #01234567".len();

/// Assigns a name to each target; `None` to a target that was found before in the list.
///
/// The name is the URL without its usual parts. Targets that differ only in something else,
/// such as labels, would share a name: one of them gets it, and the others get it with a
/// hash. That one is the target which already has the name according to `has_name`, or else
/// the first in the order of URLs and labels. Names in `taken` belong to other targets.
pub fn assign(
    found: &[&Found],
    taken: &HashSet<&str>,
    has_name: impl Fn(&str, &Found) -> bool,
) -> Vec<Option<String>> {
    let mut names = vec![None; found.len()];
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, found) in found.iter().enumerate() {
        by_name.entry(plain_name(&found.url)).or_default().push(at);
    }
    let mut used = HashSet::new();
    for (name, places) in by_name {
        let is_taken = taken.contains(&*name);
        if let ([at], false) = (places.as_slice(), is_taken) {
            names[*at] = Some(name);
            continue;
        }
        let mut identities: BTreeMap<String, usize> = BTreeMap::new();
        for at in places {
            identities.entry(identity(found[at])).or_insert(at);
        }
        let holder = identities.values().find(|at| has_name(&name, found[**at]));
        let holder = holder.or(identities.values().next()).copied();
        for (identity, at) in &identities {
            names[*at] = match holder == Some(*at) && !is_taken {
                true => Some(name.clone()),
                false => {
                    let hashed = with_hash(&name, identity);
                    let is_free = !taken.contains(&*hashed) && used.insert(hashed.clone());
                    is_free.then_some(hashed)
                }
            };
        }
    }
    names
}

/// The URL without `http://`, `/metrics` and secrets.
fn plain_name(url: &TargetUrl) -> String {
    let name = match url {
        TargetUrl::Http(parsed) => {
            let scheme = if parsed.scheme() == "https" {
                "https://"
            } else {
                ""
            };
            let is_usual = parsed.path() == "/metrics" && parsed.query().is_none();
            match is_usual {
                true => format!("{scheme}{}", url.authority()),
                false => format!("{scheme}{}", url.with_path()),
            }
        }
        TargetUrl::Unix { .. } | TargetUrl::File(_) => url.with_path(),
    };
    match name.len() <= MAX_NAME {
        true => name,
        false => with_hash(&name, &name),
    }
}

/// Everything that tells targets apart, including secrets.
fn identity(found: &Found) -> String {
    let url = match &found.url {
        TargetUrl::Http(url) => Url::to_string(url),
        TargetUrl::Unix { .. } | TargetUrl::File(_) => found.url.with_path(),
    };
    format!("{url} {}", found.labels.labels())
}

/// The name, cut if it is long, followed by a hash.
fn with_hash(name: &str, identity: &str) -> String {
    let mut end = name.len().min(MAX_NAME - HASH_LENGTH);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let hash = xxh3_64(identity.as_bytes()) >> 32;
    format!("{} #{hash:08x}", &name[..end])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::inputs::poller::discovery::found::FoundReader;
    use crate::inputs::poller::discovery::tests::template;

    fn found(address: &str, labels: &[(&str, &str)]) -> Found {
        let template = template("");
        let pairs = labels.iter().copied();
        let labels: BTreeMap<String, String> = pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let reader = FoundReader::new(&template);
        reader
            .found(address, &labels, &Arc::from(""))
            .unwrap()
            .unwrap()
    }

    fn names(found: &[&Found], taken: &[&str], holder: Option<&Found>) -> Vec<Option<String>> {
        let taken = taken.iter().copied().collect();
        assign(found, &taken, |_, found| Some(found) == holder)
    }

    #[test]
    fn a_name_is_the_url_without_its_usual_parts() {
        let long = format!("/{}", "a".repeat(300));
        for (address, labels, name) in [
            ("h:9100", &[][..], "h:9100"),
            ("h", &[], "h:80"),
            ("h", &[("__scheme__", "https")], "https://h:443"),
            ("h:1", &[("__metrics_path__", "/")], "h:1/"),
            (
                "h:1",
                &[("__param_module", "a"), ("__param_token", "hush")],
                "h:1/metrics?module=a&token=***",
            ),
            ("h:1", &[("env", "prod")], "h:1"),
        ] {
            let found = found(address, labels);
            assert_eq!(names(&[&found], &[], None), [Some(name.to_owned())]);
        }
        let long = found("h", &[("__metrics_path__", &long)]);
        let name = names(&[&long], &[], None).remove(0).unwrap();
        assert!(name.len() == MAX_NAME && name.contains("aaa #"), "{name}");
    }

    #[test]
    fn targets_of_one_name_differ_by_a_hash_and_keep_their_names() {
        let one = found("h:1", &[("env", "a")]);
        let two = found("h:1", &[("env", "b")]);
        let three = found("h:1", &[("env", "c")]);
        let name = |of: &[Option<String>]| of.iter().flatten().cloned().collect::<Vec<_>>();
        let first = name(&names(&[&two, &one], &[], None));
        assert_eq!(first[1], "h:1");
        assert!(first[0].starts_with("h:1 #") && first[0].len() == "h:1".len() + HASH_LENGTH);
        // Neither a target found elsewhere nor a duplicate changes anything.
        let more = names(&[&three, &one, &two, &one], &[], None);
        assert_eq!(
            more[1..],
            [Some(first[1].clone()), Some(first[0].clone()), None]
        );
        // The target that has the name keeps it.
        let held = name(&names(&[&one, &two], &[], Some(&two)));
        assert_eq!(held[1], "h:1");
        assert_ne!(held[0], first[0]);
        // A configured target may have the name.
        let other = names(&[&one, &two], &["h:1"], Some(&one));
        assert_eq!(name(&other), [held[0].clone(), first[0].clone()]);
        let taken = [&*first[0], "h:1"];
        assert_eq!(names(&[&two], &taken, None), [None]);
    }
}
