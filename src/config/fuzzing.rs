//! Properties of configurations, for tests and `fuzz/`.

use super::{Config, settle};
use crate::settings::ConfigError;

/// A configuration in TOML. If it is accepted and has no secret, it reads back as the same. If it
/// is rejected, there is a message.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let none: [(String, String); 0] = [];
    match settle("config.toml", text, none.clone()) {
        Ok((config, _)) => {
            let written = config.to_toml();
            if !written.contains("***") {
                let again = settle("written.toml", &written, none);
                let again: Result<Config, ConfigError> = again.map(|(config, _)| config);
                match again {
                    Ok(again) => assert_eq!(again, config, "{text}\n{written}"),
                    Err(problem) => panic!("{problem}\n{text}\n{written}"),
                }
            }
        }
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
}
