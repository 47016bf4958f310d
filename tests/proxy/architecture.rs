//! Which module may import which, and what the core must not use.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::imports::Sources;

/// The modules, lowest first, each with those that it can import.
const MAY_IMPORT: [(&str, &[&str]); 29] = [
    ("clock", &[]),
    ("live", &[]),
    ("peer", &[]),
    ("reason", &[]),
    ("record", &[]),
    ("coding", &["reason"]),
    ("redact", &[]),
    ("watched", &[]),
    ("json", &[]),
    ("yaml", &[]),
    ("event", &["clock"]),
    ("settings", &["redact"]),
    ("relabel", &["exposition", "settings", "yaml"]),
    ("exposition", &["reason"]),
    ("registry", &["clock", "exposition", "reason", "record"]),
    (
        "store",
        &[
            "clock",
            "exposition",
            "live",
            "peer",
            "reason",
            "record",
            "registry",
        ],
    ),
    (
        "telemetry",
        &[
            "clock",
            "exposition",
            "live",
            "peer",
            "reason",
            "settings",
            "store",
        ],
    ),
    ("profiler", &["exposition"]),
    ("fairness", &["clock", "peer", "settings", "telemetry"]),
    (
        "security",
        &[
            "clock",
            "fairness",
            "live",
            "net",
            "peer",
            "reason",
            "settings",
            "telemetry",
            "watched",
            "yaml",
        ],
    ),
    (
        "storage",
        &[
            "clock",
            "exposition",
            "json",
            "record",
            "settings",
            "store",
            "telemetry",
        ],
    ),
    (
        "ingest",
        &[
            "clock",
            "coding",
            "exposition",
            "fairness",
            "json",
            "reason",
            "record",
            "registry",
            "relabel",
            "security",
            "settings",
            "storage",
            "store",
            "telemetry",
        ],
    ),
    (
        "context",
        &[
            "fairness",
            "ingest",
            "reason",
            "security",
            "storage",
            "store",
            "telemetry",
        ],
    ),
    (
        "net",
        &["clock", "live", "peer", "reason", "settings", "telemetry"],
    ),
    (
        "http",
        &[
            "clock",
            "coding",
            "fairness",
            "ingest",
            "live",
            "net",
            "peer",
            "reason",
            "redact",
            "security",
            "settings",
            "storage",
            "store",
            "telemetry",
        ],
    ),
    ("http_client", &["reason", "redact", "settings"]),
    (
        "inputs",
        &[
            "clock",
            "coding",
            "context",
            "event",
            "exposition",
            "fairness",
            "http",
            "http_client",
            "ingest",
            "json",
            "live",
            "metric_data_capnp",
            "net",
            "peer",
            "reason",
            "record",
            "redact",
            "registry",
            "relabel",
            "security",
            "settings",
            "storage",
            "store",
            "telemetry",
            "watched",
            "yaml",
        ],
    ),
    (
        "outputs",
        &[
            "clock",
            "context",
            "event",
            "exposition",
            "http",
            "http_client",
            "ingest",
            "live",
            "net",
            "peer",
            "profiler",
            "reason",
            "record",
            "redact",
            "relabel",
            "security",
            "settings",
            "storage",
            "store",
            "telemetry",
        ],
    ),
    (
        "config",
        &[
            "fairness",
            "http",
            "ingest",
            "inputs",
            "net",
            "outputs",
            "security",
            "settings",
            "storage",
            "telemetry",
        ],
    ),
];

/// Modules above all others.
const TOP: [&str; 6] = ["app", "cli", "fuzzing", "healthcheck", "lib", "routes"];

/// Crates and modules that the core must not use.
const CORE: [&str; 3] = ["exposition", "registry", "store"];
const NOT_IN_CORE: [&str; 5] = ["tokio::", "hyper::", "reqwest::", "std::fs::", "log::"];

/// Functions that read a clock. Clippy rejects the last two everywhere outside `clock`. Tests of the
/// core may read clocks.
const CLOCKS: [&str; 5] = [
    "Now::read",
    "clock::tick",
    "clock::wall",
    "Instant::now",
    "SystemTime::now",
];

/// Modules that do not log: their callers do.
const SILENT: [&str; 6] = ["clock", "coding", "config", "peer", "reason", "redact"];

pub const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// All files with code in a directory.
pub fn sources(dir: &Path) -> Vec<PathBuf> {
    files(dir, "rs")
}

/// All files with an extension in a directory.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found
}

/// The code of a file: without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The code before the tests that are in the same file.
fn without_tests(code: &str) -> &str {
    code.split_once("#[cfg(test)]\nmod tests {")
        .map_or(code, |(code, _)| code)
}

/// Proptest reads the seeds of `src/a/b.rs` from `proptest-regressions/a/b.txt`.
#[test]
fn each_seed_file_belongs_to_a_file_of_tests() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("proptest-regressions");
    if !seeds.exists() {
        return;
    }
    for file in files(&seeds, "txt") {
        let inside = file.strip_prefix(&seeds).unwrap();
        let source = Path::new(SRC).join(inside).with_extension("rs");
        let reads = fs::read_to_string(&source).is_ok_and(|text| text.contains("proptest!"));
        assert!(
            reads,
            "no test reads proptest-regressions/{}",
            inside.display()
        );
    }
}

#[test]
fn modules_import_only_those_below_them() {
    let src = Path::new(SRC);
    let all = Sources::read();
    let mut seen = BTreeSet::new();
    for file in sources(src) {
        let inside = file.strip_prefix(src).unwrap();
        let module = inside
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap();
        let module = module.trim_end_matches(".rs");
        let code = code(&file);
        seen.insert(module.to_owned());
        if TOP.contains(&module) {
            continue;
        }
        let allowed = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == module)
            .map_or(&[][..], |(_, allowed)| allowed);
        // Tests can read settings as the program does.
        let imports = match all.is_test(inside) {
            true => String::new(),
            false => without_tests(&code).to_owned(),
        };
        for (at, _) in imports.match_indices("crate::") {
            let name = &imports[at + "crate::".len()..];
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = &name[..end.unwrap_or(name.len())];
            assert!(
                name == module || allowed.contains(&name),
                "{} imports {name}",
                inside.display()
            );
        }
        let is_core = CORE.contains(&module);
        let mut foreign = Vec::new();
        if is_core {
            foreign.extend(NOT_IN_CORE);
        }
        if is_core && !all.is_test(inside) {
            foreign.extend(CLOCKS);
        }
        if SILENT.contains(&module) {
            foreign.push("log::");
        }
        for foreign in foreign {
            let used = without_tests(&code).contains(foreign);
            assert!(!used, "{} names {foreign}", inside.display());
        }
    }
    for (module, _) in MAY_IMPORT {
        assert!(seen.contains(module), "{module} does not exist");
    }
}
