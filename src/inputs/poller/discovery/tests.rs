//! Helpers for the tests of several files.

use crate::config::settle;
use crate::inputs::poller::config::discovery::Template;

/// The template of a discovery with these settings for targets.
pub fn template(settings: &str) -> Template {
    let config = format!(
        "[poll_external]\nfile_sd = [{{ files = [\"a.json\"], targets = {{ {settings} }} }}]\n"
    );
    let config = settle("test", &config, []).expect("it is valid").0;
    config.poll_external.discoveries.file_sd[0].targets.clone()
}
