//! `docs/operations.md`: its examples are run with other addresses, and their results checked; the
//! rows of its tables are tried. [`documents`](crate::documents) explains the marks of examples; a
//! table that is tried follows `<!-- table: NAME -->`.

use crate::documents::{self, Block, code};
use crate::gateway::Page;
use crate::harness::{eventually, program};
use crate::operations::Counting;
use crate::tools::{self, Tool, command, root, run, run_with};

const DOCUMENT: &str = include_str!("../../docs/operations.md");

/// Languages whose blocks are examples to run, as their fences name them.
const LANGUAGES: [&str; 4] = ["sh", "bash", "python", "php"];

fn blocks() -> Vec<Block> {
    documents::blocks(DOCUMENT)
}

/// Runs the examples of a language one after the other.
fn run_examples(language: &str) {
    let counting = Counting::start("");
    let port = |address: &str| {
        let (_, port) = address.split_once(':').expect("a port");
        port.to_owned()
    };
    let mut number = 0;
    for block in blocks() {
        if block.language != language {
            continue;
        }
        number += 1;
        let text = block
            .text
            .replace("client/", &format!("{}/client/", root().display()))
            .replace("/run/exporter-proxy-operations.sock", "<unix>")
            .replace("/run/exporter-proxy-datagrams.sock", "<datagrams>")
            .replace("localhost:6556", &counting.proxy.push)
            // A chosen port may contain the digits of another one.
            .replace("6557", "<udp port>")
            .replace("6558", "<tcp port>");
        let text = counting
            .filled(&text)
            .replace("<udp port>", &port(&counting.udp))
            .replace("<tcp port>", &port(&counting.tcp));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut example = documents::example(language, &text, dir.path());
        let printed = run(example.current_dir(dir.path()));
        assert_eq!(printed.stdout + &printed.stderr, "", "{text}");
        for expected in &block.expected {
            eventually(
                || (expected, Page::parse(&counting.proxy.metrics())),
                |(expected, page)| expected.holds(page),
            );
        }
    }
    assert!(number > 0, "no example in {language}");
}

#[test]
fn examples_for_netcat_and_socat_count() {
    if tools::here(&[Tool::Netcat, Tool::Socat, Tool::Curl]) {
        run_examples("sh");
    }
}

#[test]
fn examples_in_bash_count() {
    if tools::here(&[Tool::Netcat]) {
        run_examples("bash");
    }
}

#[test]
fn examples_in_python_count() {
    if tools::here(&[Tool::StatsdClients]) {
        run_examples("python");
    }
}

#[test]
fn examples_in_php_count() {
    if tools::here(&[Tool::PhpSockets]) {
        run_examples("php");
    }
}

#[test]
fn every_example_says_what_it_leaves() {
    for block in blocks() {
        let is_example = LANGUAGES.contains(&block.language);
        assert_eq!(is_example, !block.expected.is_empty(), "{block:#?}");
    }
}

#[test]
fn settings_in_the_document_are_settings() {
    documents::check_settings(&blocks());
}

fn table(name: &str) -> Vec<Vec<String>> {
    documents::table(DOCUMENT, name)
}

/// Sends a text as `nc -N -U` does, and returns the answer.
fn send(counting: &Counting, text: &str) -> String {
    let unix = counting.filled("<unix>");
    let mut netcat = command(Tool::Netcat);
    run_with(netcat.args(["-N", "-U", &unix]), text.as_bytes()).stdout
}

#[test]
fn buckets_are_as_the_document_says() {
    if !tools::here(&[Tool::Netcat]) {
        return;
    }
    let counting = Counting::start("");
    for (number, row) in table("buckets").iter().enumerate() {
        let [given, bounds] = &row[..] else {
            panic!("{row:?}");
        };
        let keys = match given.strip_prefix('`') {
            Some(_) => format!(", {}", code(given)),
            None => String::new(),
        };
        let message = format!("{{\"name\": \"b{number}\", \"op\": \"obs\"{keys}}}");
        assert_eq!(send(&counting, &message), "", "{message}");
        let metrics = counting.proxy.metrics();
        let start = format!("b{number}_bucket{{le=\"");
        let shown: Vec<&str> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(&start)?.split('"').next())
            .collect();
        let expected: Vec<&str> = code(bounds).split(", ").chain(["+Inf"]).collect();
        assert_eq!(shown, expected, "{message}");
    }
}

#[test]
fn lines_make_what_the_document_says() {
    if !tools::here(&[Tool::Netcat]) {
        return;
    }
    let counting = Counting::start("");
    for row in table("lines") {
        let [line, sample, kind] = &row[..] else {
            panic!("{row:?}");
        };
        assert_eq!(send(&counting, code(line)), "", "{line}");
        let page = Page::parse(&counting.proxy.metrics());
        let (series, value) = code(sample).rsplit_once(' ').expect("a value");
        page.expect(&[(series, value.parse().expect("a number"))]);
        let named = kind.split([':', ',']).next().expect("a word");
        if ["counter", "gauge", "histogram"].contains(&named) {
            let name = series.split('{').next().expect("a name");
            let family = page
                .families
                .iter()
                .find(|(family, _)| name.starts_with(*family));
            assert_eq!(family.expect("a documented family").1.kind, named, "{line}");
        }
    }
}

#[test]
fn rejected_messages_have_the_documented_reason() {
    if !tools::here(&[Tool::Netcat]) {
        return;
    }
    let counting = Counting::start("");
    let there = "views:1|c\n{\"name\": \"seconds\", \"op\": \"obs\"}";
    assert_eq!(send(&counting, there), "");
    let before = counting.proxy.metrics();
    let page = Page::parse(&before);
    for row in table("rejected") {
        let (message, reason) = (code(&row[0]), code(&row[1]));
        let times = counting.results(reason);
        let answer = send(&counting, message);
        let lines = answer.lines().count();
        assert!(
            answer.starts_with("error: message 1: ") && lines == 1,
            "{message}: {answer}"
        );
        assert_eq!(counting.results(reason), times + 1.0, "{message}: {answer}");
    }
    assert_eq!(Page::parse(&counting.proxy.metrics()), page, "nothing else");
}

#[test]
fn the_document_has_every_setting_with_its_default() {
    let printed = run(program().arg("print-config")).stdout;
    let start = printed.find("[operations]\n").expect("they are printed");
    let rest = &printed[start + "[operations]\n".len()..];
    let (settings, _) = rest.split_once("\n[").expect("another table follows");
    let mut expected: Vec<String> = settings
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    expected.push("extra_labels = {}".to_owned());
    let mut found: Vec<String> = table("settings")
        .iter()
        .map(|row| format!("{} = {}", code(&row[0]), code(&row[1])))
        .collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn links_in_the_document_lead_somewhere() {
    let anchors: Vec<String> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("##"))
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            heading.replace(' ', "-").replace(['\'', ','], "")
        })
        .collect();
    let mut number = 0;
    for link in DOCUMENT.split("](").skip(1) {
        let target = link.split(')').next().expect("a link ends");
        number += 1;
        if let Some(anchor) = target.strip_prefix('#') {
            assert!(anchors.iter().any(|it| it == anchor), "{anchor}");
        } else {
            let file = target.split('#').next().expect("a file");
            assert!(root().join("docs").join(file).exists(), "{target}");
        }
    }
    assert!(number > 10, "{number}");
}
