//! Examples in documents: extracted, run unchanged, and checked.
//!
//! A comment before an example says what `/metrics` holds after it:
//! `<!-- test: SERIES [VALUE] -->`, or `<!-- test: no PART OF A SERIES -->`. With
//! `test here:` instead, the tests of the document decide where it runs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::gateway::Page;
use crate::harness::program;
use crate::tools::{Tool, command, command_of, root, run};

#[derive(Debug)]
pub struct Block {
    /// The language of its fence.
    pub language: &'static str,
    pub text: &'static str,
    /// Marked with `test here:`.
    pub here: bool,
    pub expected: Vec<Expected>,
}

#[derive(Debug)]
pub enum Expected {
    Series(&'static str, Option<f64>),
    No(&'static str),
}

/// All fenced blocks of a document, in its order.
pub fn blocks(document: &'static str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let (mut expected, mut here) = (Vec::new(), false);
    let mut rest = document;
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

    pub fn holds(&self, page: &Page) -> bool {
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

/// How a reader would run an example.
pub fn example(language: &str, text: &str, dir: &Path) -> Command {
    let file = |name: &str| {
        let file = dir.join(name);
        fs::write(&file, text).expect("the example is written");
        file
    };
    let clients = root().join("tests/clients");
    match language {
        "sh" | "bash" => {
            let mut shell = command_of(Path::new(language));
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

/// Checks that the program takes each block of settings, and that there are any.
pub fn check_settings(blocks: &[Block]) {
    check_settings_with(blocks, |text, _| text.to_owned());
}

/// Like [`check_settings`], after `adapt`, which gets the text and the directory of the check.
pub fn check_settings_with(blocks: &[Block], adapt: impl Fn(&str, &Path) -> String) {
    let mut number = 0;
    for block in blocks.iter().filter(|block| block.language == "toml") {
        number += 1;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("config.toml");
        fs::write(&file, adapt(block.text, dir.path())).expect("the settings are written");
        let mut check = program();
        check.arg("check-config").arg("--config").arg(&file);
        run(check.current_dir(dir.path()));
    }
    assert!(number > 0, "no settings in the document");
}

/// The rows of the table after `<!-- table: NAME -->`, without its head.
pub fn table(document: &str, name: &str) -> Vec<Vec<String>> {
    let marker = format!("<!-- table: {name} -->\n");
    let (_, rest) = document.split_once(&marker).expect("the table is marked");
    let lines = rest.trim_start().lines();
    let rows: Vec<Vec<String>> = lines
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').replace("\\|", "\u{1}");
            let cells = cells.split('|');
            cells
                .map(|cell| cell.trim().replace('\u{1}', "|"))
                .collect()
        })
        .collect();
    assert!(rows.len() > 5, "{name}: {rows:?}");
    rows
}

/// A cell without the marks of code.
pub fn code(cell: &str) -> &str {
    cell.trim_matches('`')
}
