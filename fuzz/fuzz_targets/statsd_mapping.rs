#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| exporter_proxy::fuzzing::run("statsd_mapping", data));
