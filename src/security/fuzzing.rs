//! Properties of the web configuration, for tests and `fuzz/`.

use super::web_file::WebFile;

/// A file of exporter-toolkit, in YAML. Each problem must have a message and a position
/// within the text.
pub fn web_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for problem in WebFile::parse(text).err().unwrap_or_default() {
        assert!(!problem.message.is_empty());
        if let Some((line, _)) = problem.at {
            assert!(line <= text.lines().count() + 1, "{line}: {text:?}");
        }
    }
}
