//! Which module may know which: reads the source and holds the direction.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, lowest first, each with those that it can import.
const MAY_NAME: [(&str, &[&str]); 17] = [
    ("clock", &[]),
    ("peer", &[]),
    ("reason", &[]),
    ("coding", &["reason"]),
    ("redact", &[]),
    ("settings", &["redact"]),
    ("exposition", &["reason"]),
    ("registry", &["clock", "exposition", "reason"]),
    (
        "store",
        &["clock", "exposition", "peer", "reason", "registry"],
    ),
    (
        "telemetry",
        &["clock", "exposition", "peer", "reason", "store"],
    ),
    ("net", &["peer", "settings", "telemetry"]),
    (
        "ingest",
        &[
            "clock",
            "coding",
            "exposition",
            "inputs",
            "reason",
            "registry",
            "settings",
            "store",
            "telemetry",
            "config",
        ],
    ),
    (
        "http",
        &[
            "clock",
            "coding",
            "config",
            "ingest",
            "inputs",
            "net",
            "outputs",
            "peer",
            "reason",
            "redact",
            "settings",
            "store",
            "telemetry",
        ],
    ),
    (
        "inputs",
        &[
            "clock",
            "coding",
            "config",
            "exposition",
            "http",
            "ingest",
            "metric_data_capnp",
            "net",
            "outputs",
            "peer",
            "reason",
            "redact",
            "registry",
            "settings",
            "store",
            "telemetry",
        ],
    ),
    (
        "outputs",
        &[
            "clock",
            "config",
            "exposition",
            "http",
            "ingest",
            "inputs",
            "net",
            "peer",
            "reason",
            "redact",
            "settings",
            "store",
            "telemetry",
        ],
    ),
    (
        "config",
        &[
            "http",
            "ingest",
            "inputs",
            "outputs",
            "redact",
            "settings",
            "telemetry",
        ],
    ),
    ("inspector", &["clock", "reason", "store", "telemetry"]),
];

/// Above all others.
const TOP: [&str; 2] = ["app", "lib"];

/// What the core does without.
const CORE: [&str; 3] = ["exposition", "registry", "store"];
const NOT_IN_CORE: [&str; 5] = [
    "tokio::",
    "hyper::",
    "reqwest::",
    "std::fs::",
    "Instant::now",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn modules_name_only_what_stands_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut seen = BTreeSet::new();
    for file in files {
        let inside = file.strip_prefix(&src).unwrap();
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
        let allowed = MAY_NAME
            .iter()
            .find(|(name, _)| *name == module)
            .map_or(&[][..], |(_, allowed)| allowed);
        for (at, _) in code.match_indices("crate::") {
            let name = &code[at + "crate::".len()..];
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = &name[..end.unwrap_or(name.len())];
            assert!(
                name == module || allowed.contains(&name),
                "{} names {name}",
                inside.display()
            );
        }
        if CORE.contains(&module) {
            for foreign in NOT_IN_CORE {
                let test = inside.iter().any(|part| {
                    ["tests.rs", "tests", "model", "model.rs"]
                        .iter()
                        .any(|it| part == *it)
                });
                assert!(
                    (foreign == "Instant::now" && test) || !code.contains(foreign),
                    "{} names {foreign}",
                    inside.display()
                );
            }
        }
    }
    for (module, _) in MAY_NAME {
        assert!(seen.contains(module), "there is no {module} any more");
    }
}
