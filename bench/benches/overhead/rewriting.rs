//! The size on disk while every group is pushed again and again, as over days of use.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::Result;
use bench::client::Client;
use bench::proxy::Proxy;

use crate::{SERIES, directory_on_disk, group, put, stored_in};

/// 190 MB of texts.
const GROUPS: usize = 20_000;
const SENDERS: usize = 4;
/// The number of pushes to every group.
const REWRITES: u64 = 25;

pub fn measure(program: &Path) -> Result<()> {
    let directory = directory_on_disk()?;
    let proxy = Proxy::start(program, 2, &stored_in(directory.path()))?;
    let address = proxy.addresses.push.as_str();
    let live = GROUPS * group(0, 0).1.len();
    println!(
        "\n{GROUPS} groups of {SERIES} series, {} MB of text, pushed {REWRITES} times:\n",
        live / 1_000_000
    );
    println!("| Times pushed | size on disk | of the text |\n| ---: | ---: | ---: |");
    for version in 1..=REWRITES {
        thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| scope.spawn(move || rewrite(address, sender, version)))
                .collect();
            senders
                .into_iter()
                .try_for_each(|sender| sender.join().expect("a sender does not panic"))
        })?;
        let size = size(directory.path())?;
        println!(
            "| {version} | {} MB | {:.2} × |",
            size / 1_000_000,
            size as f64 / live as f64
        );
    }
    Ok(())
}

fn rewrite(address: &str, sender: usize, version: u64) -> Result<()> {
    let mut client = Client::connect(address)?;
    (sender..GROUPS)
        .step_by(SENDERS)
        .try_for_each(|number| put(&mut client, &group(number, version * 1_000)))
}

/// Bytes of all files in a directory. A file that is deleted meanwhile does not count.
fn size(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path())?,
            Ok(data) => data.len(),
            Err(_) => 0,
        };
    }
    Ok(bytes)
}
