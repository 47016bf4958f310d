//! All targets in one program, which is linked only once: `FUZZ_TARGET` selects the target.

#![no_main]

use std::sync::LazyLock;

use exporter_proxy::fuzzing::{Property, property};

static PROPERTY: LazyLock<Property> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    property(&name)
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (*PROPERTY)(data));
