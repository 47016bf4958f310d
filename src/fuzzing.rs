//! The fuzz targets: properties that hold for every input from a sender, an operator or a disk.
//!
//! `fuzz/` searches for inputs that break a property, and a test here runs every input of
//! `fuzz/corpus`. The properties are beside the parsers.

use crate::inputs::operations;
use crate::inputs::{sockets, values, webhooks};
use crate::{coding, config, exposition, http, net, security, storage};

/// Checks one input. It panics where a property does not hold.
pub type Property = fn(&[u8]);

/// All targets by name. Each has a program in `fuzz/fuzz_targets`, for cargo-fuzz, and a
/// folder in `fuzz/corpus`. The program `any` has all of them, for `scripts/fuzz`.
pub const TARGETS: [(&str, Property); 16] = [
    ("capnp", sockets::fuzzing::capnp),
    ("compressed", coding::fuzzing::compressed),
    ("config", config::fuzzing::config),
    ("json", sockets::fuzzing::json),
    ("open_metrics", exposition::fuzzing::open_metrics),
    ("operations", operations::fuzzing::operations),
    ("paths", http::router::fuzzing::paths),
    ("protobuf", exposition::protobuf::fuzzing::protobuf),
    ("proxy_header", net::fuzzing::proxy_header),
    ("records", storage::fuzzing::records),
    ("statsd", operations::fuzzing::statsd),
    ("statsd_mapping", operations::fuzzing::statsd_mapping),
    ("text", exposition::fuzzing::text),
    ("values", values::fuzzing::values),
    ("web_file", security::fuzzing::web_file),
    ("webhook", webhooks::fuzzing::webhook),
];

/// The property that the target `name` checks.
///
/// # Panics
///
/// There is no such target.
pub fn property(name: &str) -> Property {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, property) = target.expect("a target of that name");
    *property
}

/// Runs the target `name`.
///
/// # Panics
///
/// The property does not hold, or there is no such target.
pub fn run(name: &str, data: &[u8]) {
    property(name)(data);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The names in a folder of `fuzz/`, without extensions.
    fn names(folder: &str) -> BTreeSet<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz")
            .join(folder);
        let entries = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn each_target_has_a_program_and_a_corpus() {
        let targets: BTreeSet<String> =
            TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names("corpus"), targets);
        let mut programs = names("fuzz_targets");
        assert!(programs.remove("any"), "scripts/fuzz needs this program");
        assert_eq!(programs, targets);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for name in targets {
            let path = format!("fuzz_targets/{name}.rs");
            let program = fs::read_to_string(folder.join(&path)).unwrap();
            let call = format!("|data: &[u8]| exporter_proxy::fuzzing::run(\"{name}\", data)");
            assert!(program.contains(&call), "{path}");
            let entry = format!("name = \"{name}\"\npath = \"{path}\"\n");
            assert!(manifest.contains(&entry), "{path}");
        }
    }

    #[test]
    fn the_corpus_breaks_no_property() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, property) in TARGETS {
            let mut inputs = 0;
            for entry in fs::read_dir(corpus.join(name)).unwrap() {
                let path = entry.unwrap().path();
                eprintln!("{}", path.display());
                property(&fs::read(path).unwrap());
                inputs += 1;
            }
            assert!(inputs > 0, "{name} has no input");
        }
    }
}
