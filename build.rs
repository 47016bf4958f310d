//! Generates the Rust code for `schema/metric_data.capnp`.
//!
//! If the machine has the `capnp` compiler, it generates the code; otherwise the
//! checked-in `schema/metric_data_capnp.rs` is used, so that a Rust toolchain
//! alone builds the program. `tests/e2e/schema.rs` compares the two.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

const SCHEMA: &str = "schema/metric_data.capnp";
const CHECKED_IN: &str = "schema/metric_data_capnp.rs";

#[expect(clippy::disallowed_methods, reason = "cargo tells it where to write")]
fn main() {
    println!("cargo::rerun-if-changed={SCHEMA}");
    println!("cargo::rerun-if-changed={CHECKED_IN}");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if !compiler_is_here() {
        use_checked_in(&out);
    } else if let Err(problem) = capnpc::CompilerCommand::new()
        .src_prefix("schema")
        .file(SCHEMA)
        .output_path(&out)
        .run()
    {
        println!("cargo::warning=capnp could not compile {SCHEMA}, using {CHECKED_IN}: {problem}");
        use_checked_in(&out);
    }
}

fn compiler_is_here() -> bool {
    Command::new("capnp")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn use_checked_in(out: &Path) {
    fs::copy(CHECKED_IN, out.join("metric_data_capnp.rs"))
        .unwrap_or_else(|problem| panic!("cannot copy {CHECKED_IN}: {problem}"));
}
