//! `docs/pushing.md`: its examples are run with other addresses, and their results checked.
//! [`documents`](crate::documents) explains the marks of examples.
//!
//! Examples with `test here:` run with the proxy only; the others also run with the real
//! Pushgateway.

use crate::documents::{self, Block};
use crate::gateway::Gateway;
use crate::harness::eventually;
use crate::tools::{self, Tool, run};

const DOCUMENT: &str = include_str!("../../docs/pushing.md");

/// Languages whose blocks are examples to run, as their fences name them.
const LANGUAGES: [&str; 6] = ["sh", "python", "go", "js", "java", "php"];

fn blocks() -> Vec<Block> {
    documents::blocks(DOCUMENT)
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
        let mut example = documents::example(language, &text, dir.path());
        // Examples write their files there.
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
    documents::check_settings(&blocks());
}
