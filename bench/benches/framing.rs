//! Framing and decoding of messages in a stream, beside parsing the same bytes into a
//! `serde_json::Value`. Prints Markdown.
//!
//! `cargo bench -p bench --bench framing`. One core, no sockets, nothing stored.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exporter_proxy::inputs::sockets::config::Format;
use exporter_proxy::inputs::sockets::{Inbox, InboxLimits, Next};
use exporter_proxy::net::MemoryBudget;

use bench::figures::median;
use bench::payload::{app_text, capnp_message, json_document};

/// Messages in a stream, each of a text of 9.3 KB.
const MESSAGES: usize = 200;
const SERIES: usize = 100;

/// Bytes per read: the most that a receiver reads, and one network packet.
const READS: [usize; 2] = [256 * 1024, 1_460];

const ROUNDS: usize = 15;

/// Reads a whole stream and returns the number of messages.
type Run<'s> = Box<dyn Fn() -> usize + 's>;

fn main() {
    if !bench::is_measuring() {
        return;
    }
    let texts: Vec<(String, String)> = (0..MESSAGES)
        .map(|app| format!("load_{app:05}"))
        .map(|app| (app.clone(), app_text(&app, SERIES, 0)))
        .collect();
    let text: usize = texts.iter().map(|(_, text)| text.len()).sum();
    let json: Vec<Vec<u8>> = texts
        .iter()
        .map(|(app, text)| json_document(app, text))
        .collect();
    let json_lines: Vec<Vec<u8>> = texts
        .iter()
        .map(|(app, text)| {
            let lines: Vec<&str> = text.lines().collect();
            serde_json::json!({ app: lines }).to_string().into_bytes()
        })
        .collect();
    let capnp: Vec<Vec<u8>> = texts
        .iter()
        .map(|(app, text)| capnp_message(app, text))
        .collect();
    let streams = [json.concat(), json_lines.concat(), capnp.concat()];

    let mut ways: Vec<(String, usize, Run<'_>)> = Vec::new();
    let formats = [
        ("JSON, a string", Format::Json),
        ("JSON, an array of lines", Format::Json),
        ("Cap'n Proto", Format::Capnp),
    ];
    for ((name, format), stream) in formats.into_iter().zip(&streams) {
        for read in READS {
            let name = format!("{name}, {read} bytes at once");
            ways.push((
                name,
                stream.len(),
                Box::new(move || receive(format, stream, read)),
            ));
        }
    }
    for (name, messages) in [
        ("`serde_json::Value`, a string", &json),
        ("`serde_json::Value`, an array of lines", &json_lines),
    ] {
        let size = messages.iter().map(Vec::len).sum();
        ways.push((name.to_owned(), size, Box::new(|| parse(messages))));
    }

    println!(
        "{MESSAGES} messages of {:.1} KB of text each; medians of {ROUNDS} rounds, in which the ways take turns\n",
        text as f64 / MESSAGES as f64 / 1e3
    );
    println!("| Way | Messages | Stream | of it, text |\n| --- | ---: | ---: | ---: |");
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        for ((_, _, run), times) in ways.iter().zip(&mut times) {
            times.push(time(run).as_secs_f64());
        }
    }
    for ((name, size, _), times) in ways.iter().zip(times) {
        let seconds = median(times);
        println!(
            "| {name} | {:.0}/s | {:.0} MB/s | {:.0} MB/s |",
            MESSAGES as f64 / seconds,
            *size as f64 / seconds / 1e6,
            text as f64 / seconds / 1e6
        );
    }
}

fn time(run: &Run<'_>) -> Duration {
    let start = Instant::now();
    assert_eq!(run(), MESSAGES, "every message is found");
    start.elapsed()
}

/// The work of a connection on its bytes, without storing them.
fn receive(format: Format, stream: &[u8], read: usize) -> usize {
    let limits = InboxLimits {
        max_payload: 16 << 20,
        max_apps: usize::MAX,
        max_inline: usize::MAX,
        budget: Arc::new(MemoryBudget::new(256 << 20, Arc::default())),
    };
    let mut inbox = Inbox::new(format, limits);
    let mut messages = 0;
    for bytes in stream.chunks(read) {
        let fed = inbox.feed(bytes, |message, _| {
            messages += black_box(message).apps.len();
            Ok(Next::Message)
        });
        assert!(fed.is_ok(), "the stream is well-formed");
    }
    assert!(inbox.finish().is_ok(), "the stream ends after a message");
    messages
}

/// The work of a receiver without its own framing, given separate messages.
fn parse(messages: &[Vec<u8>]) -> usize {
    let parsed = messages
        .iter()
        .filter(|message| black_box(serde_json::from_slice::<serde_json::Value>(message)).is_ok());
    parsed.count()
}
