//! The checked-in code of the schema.

use std::fs;

use crate::tools::{self, Tool, root};

const CODE: &str = "metric_data_capnp.rs";

#[test]
fn the_checked_in_code_is_what_the_schema_compiler_makes() {
    if !tools::here(&[Tool::Capnp]) {
        return;
    }
    let made = tempfile::tempdir().expect("a temporary directory");
    capnpc::CompilerCommand::new()
        .src_prefix(root().join("schema"))
        .file(root().join("schema/metric_data.capnp"))
        .output_path(made.path())
        .run()
        .expect("the schema compiles");
    let made = fs::read_to_string(made.path().join(CODE)).expect("code is made");
    let checked_in =
        fs::read_to_string(root().join("schema").join(CODE)).expect("code is checked in");
    assert!(
        without_version(&made) == without_version(&checked_in),
        "schema/{CODE} is not what schema/metric_data.capnp compiles to: replace it by the file \
         of that name which `cargo build` makes in target/*/build/*/out"
    );
}

/// Machines have different versions of the compiler, which generate the same code.
fn without_version(code: &str) -> String {
    code.split_inclusive('\n')
        .filter(|line| !line.starts_with("// capnp binary version"))
        .collect()
}
