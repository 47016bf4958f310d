//! Finds the journal to which the engine appends its writes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The file extension of the engine's journals. Their names are numbers.
const EXTENSION: &str = "jnl";

/// Opens the journal that is in use, in the engine's directory. The engine syncs a journal
/// before it begins the next one, so syncing this one syncs everything written before.
///
/// # Errors
///
/// There is no journal, or it cannot be opened.
pub fn open_newest(data: &Path) -> io::Result<File> {
    loop {
        let newest = newest(data)?;
        match File::open(&newest) {
            // Meanwhile the engine began the next journal and deleted this one.
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
    }
}

fn newest(data: &Path) -> io::Result<PathBuf> {
    let mut newest = None;
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == EXTENSION) {
            let number = path
                .file_stem()
                .and_then(|it| it.to_str()?.parse::<u64>().ok());
            newest = newest.max(number.map(|number| (number, path)));
        }
    }
    let (_, path) = newest.ok_or_else(|| {
        let problem = format!("{} has no journal", data.display());
        io::Error::new(io::ErrorKind::NotFound, problem)
    })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_journal_with_the_highest_number_is_in_use() {
        let data = tempfile::tempdir().unwrap();
        let missing = open_newest(data.path()).unwrap_err().to_string();
        assert!(missing.contains("has no journal"), "{missing}");
        for name in ["9.jnl", "10.jnl", "11", "lock.jnl"] {
            fs::write(data.path().join(name), name).unwrap();
        }
        let mut content = String::new();
        let mut file = open_newest(data.path()).unwrap();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "10.jnl");
    }
}
