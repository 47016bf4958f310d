//! `docs/pushing.md`: its examples are run as they stand, the addresses aside,
//! and what they push shows up.
//!
//! A comment before an example says what `/metrics` holds after it:
//! `<!-- test: SERIES [VALUE] -->`, or `<!-- test: no PART OF A SERIES -->`. With
//! `test here:` the example is for the proxy alone; the others are held against
//! the real Pushgateway too.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::gateway::{Gateway, Page};
use crate::harness::{eventually, program};
use crate::tools::{self, Tool, command, command_of, root, run};

const DOCUMENT: &str = include_str!("../../docs/pushing.md");

/// Languages whose blocks are examples to run, by the words of their fences.
const LANGUAGES: [&str; 6] = ["sh", "python", "go", "js", "java", "php"];

#[derive(Debug)]
struct Block {
    language: &'static str,
    text: &'static str,
    /// For the proxy alone.
    here: bool,
    expected: Vec<Expected>,
}

#[derive(Debug)]
enum Expected {
    Series(&'static str, Option<f64>),
    No(&'static str),
}

/// All fenced blocks of the document, in its order.
fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut expected, mut here) = (Vec::new(), false);
    let mut rest = DOCUMENT;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if let Some(language) = line.strip_prefix("```") {
            let (text, after) = rest.split_once("```\n").expect("a block ends");
            rest = after;
            blocks.push(Block {
                language,
                text,
                here,
                expected: std::mem::take(&mut expected),
            });
            here = false;
        } else if let Some(comment) = line.strip_prefix("<!-- test") {
            let comment = comment.strip_suffix(" -->").expect("a comment ends");
            let (word, what) = comment.split_once(": ").expect("a comment says what");
            here |= word == " here";
            assert!(["", " here"].contains(&word), "test{word}?");
            expected.push(Expected::parse(what));
        } else {
            assert!(expected.is_empty(), "no block after a comment: {line:?}");
        }
    }
    blocks
}

impl Expected {
    fn parse(what: &'static str) -> Expected {
        if let Some(part) = what.strip_prefix("no ") {
            return Expected::No(part);
        }
        match what.rsplit_once(' ') {
            Some((series, value)) if !what.ends_with('}') => {
                Expected::Series(series, Some(value.parse().expect("a number")))
            }
            _ => Expected::Series(what, None),
        }
    }

    fn holds(&self, page: &Page) -> bool {
        match self {
            Expected::Series(series, None) => page.value(series).is_some(),
            Expected::Series(series, value) => page.value(series) == *value,
            Expected::No(part) => {
                let mut families = page.families.values();
                !families.any(|family| family.samples.keys().any(|key| key.contains(part)))
            }
        }
    }
}

/// Runs the examples of a language one after the other.
fn run_examples(language: &str, gateway: &Gateway, is_proxy: bool) {
    let mut number = 0;
    for block in blocks() {
        if block.language != language || block.here && !is_proxy {
            continue;
        }
        number += 1;
        let text = block
            .text
            .replace("localhost:6556", &gateway.push)
            .replace("localhost:6555", &gateway.scrape);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut example = example(language, &text, dir.path());
        // What it writes goes there.
        run(example.current_dir(dir.path()));
        for expected in &block.expected {
            eventually(
                || (expected, gateway.page()),
                |(expected, page)| expected.holds(page),
            );
        }
    }
    assert!(number > 0, "no example in {language}");
}

/// How a reader would run an example.
fn example(language: &str, text: &str, dir: &Path) -> Command {
    let file = |name: &str| {
        let file = dir.join(name);
        fs::write(&file, text).expect("the example is written");
        file
    };
    let clients = root().join("tests/clients");
    match language {
        "sh" => {
            let mut shell = command_of(Path::new("sh"));
            shell.arg("-e").arg(file("example.sh"));
            shell
        }
        "python" => {
            let mut python = command(Tool::PrometheusClient);
            python.arg(file("example.py"));
            python
        }
        "go" => {
            file("main.go");
            for name in ["go.mod", "go.sum"] {
                fs::copy(clients.join("go").join(name), dir.join(name)).expect("it is copied");
            }
            let program = dir.join("example");
            run(Command::new("go")
                .args(["build", "-o"])
                .arg(&program)
                .arg(".")
                .current_dir(dir));
            command_of(&program)
        }
        "js" => {
            let mut node = command(Tool::Node);
            node.arg(file("example.js"))
                .env("NODE_PATH", clients.join("node/node_modules"));
            node
        }
        "java" => {
            let mut java = command(Tool::Java);
            java.arg(file("Push.java"));
            java
        }
        "php" => {
            let mut php = command(Tool::Php);
            php.arg(file("example.php"));
            php
        }
        other => panic!("no way to run {other}"),
    }
}

/// A test against the real Pushgateway, and against the proxy.
macro_rules! examples {
    ($name:ident, $language:expr, $tool:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn push_to_pushgateway() {
                if tools::here(&[Tool::Pushgateway, $tool]) {
                    run_examples($language, &Gateway::pushgateway(&[]), false);
                }
            }

            #[test]
            fn push_to_the_proxy() {
                if tools::here(&[$tool]) {
                    run_examples($language, &Gateway::proxy(""), true);
                }
            }
        }
    };
}

examples!(examples_for_curl, "sh", Tool::Curl);
examples!(examples_in_python, "python", Tool::PrometheusClient);
examples!(examples_in_go, "go", Tool::PushClient);
examples!(examples_in_node, "js", Tool::PromClient);
examples!(examples_in_java, "java", Tool::Java);
examples!(examples_in_php, "php", Tool::Php);

#[test]
fn every_example_says_what_it_leaves() {
    for block in blocks() {
        let is_example = LANGUAGES.contains(&block.language);
        assert_eq!(is_example, !block.expected.is_empty(), "{block:#?}");
    }
    for language in LANGUAGES {
        assert!(
            blocks().iter().any(|block| block.language == language),
            "no example in {language}"
        );
    }
}

#[test]
fn settings_in_the_document_are_settings() {
    let mut number = 0;
    for block in blocks().iter().filter(|block| block.language == "toml") {
        number += 1;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("config.toml");
        fs::write(&file, block.text).expect("the settings are written");
        run(program().arg("check-config").arg("--config").arg(&file));
    }
    assert!(number > 0, "no settings in the document");
}
