//! Configuration files that are watched, replaced and missing.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::{Proxy, eventually};
use crate::reload::{succeeded, write_config};
/// A proxy that watches its configuration file.
fn watching(config: &str) -> Proxy {
    Proxy::launch(config, &[], |command| command.arg("--watch"))
}

fn limit(proxy: &Proxy) -> Option<f64> {
    proxy.sample("exporter_proxy_groups_max")
}

#[test]
fn a_watched_file_is_read_when_it_is_replaced_or_written() {
    let proxy = watching("[push]\nmax_groups = 1\n");
    let file = proxy.dir.path().join("config.toml");
    write_config(&proxy, "[push]\nmax_groups = 2\n");
    eventually(|| limit(&proxy), |limit| *limit == Some(2.0));
    std::fs::write(&file, "[push]\nmax_groups = 3\n").unwrap();
    eventually(|| limit(&proxy), |limit| *limit == Some(3.0));

    // A half-written file is refused once; when it is complete, it is used.
    std::fs::write(&file, "[push]\nmax_groups = ").unwrap();
    eventually(|| succeeded(&proxy), |ok| *ok == Some(0.0));
    assert_eq!(limit(&proxy), Some(3.0));
    std::fs::write(&file, "[push]\nmax_groups = 4\n").unwrap();
    eventually(|| limit(&proxy), |limit| *limit == Some(4.0));
    // It is set a little after the limit.
    eventually(|| succeeded(&proxy), |ok| *ok == Some(1.0));

    // If the file vanishes, everything stays as it is.
    std::fs::remove_file(&file).unwrap();
    eventually(|| succeeded(&proxy), |ok| *ok == Some(0.0));
    assert_eq!(limit(&proxy), Some(4.0));
    assert_eq!(proxy.log().matches("was not reloaded").count(), 2);
    std::fs::write(&file, "[push]\nmax_groups = 5\n").unwrap();
    eventually(|| limit(&proxy), |limit| *limit == Some(5.0));
}

#[test]
fn a_watched_file_behind_links_is_read_when_a_link_changes() {
    // As Kubernetes mounts a ConfigMap: the file is a link through `..data`, which is swapped.
    let proxy = watching("");
    let dir = proxy.dir.path();
    let version = |number: u32| {
        let directory = dir.join(format!("version_{number}"));
        std::fs::create_dir(&directory).unwrap();
        let config = format!("[push]\nmax_groups = {number}\n");
        std::fs::write(directory.join("config.toml"), config).unwrap();
        let link = dir.join("..data_tmp");
        symlink(&directory, &link).unwrap();
        std::fs::rename(&link, dir.join("..data")).unwrap();
    };
    version(1);
    let file = dir.join("config.toml");
    std::fs::remove_file(&file).unwrap();
    symlink(Path::new("..data/config.toml"), &file).unwrap();
    eventually(|| limit(&proxy), |limit| *limit == Some(1.0));
    for number in 2..=3 {
        version(number);
        let number = Some(f64::from(number));
        eventually(|| limit(&proxy), |limit| *limit == number);
    }
}

#[test]
fn the_default_file_must_be_there_at_a_reload_if_it_was_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), "[push]\nmax_groups = 6\n").unwrap();
    let proxy = Proxy::launch("", &[], |command| {
        let program = std::mem::replace(command, std::process::Command::new("true"));
        *command = std::process::Command::new(program.get_program());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .current_dir(dir.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
    });
    assert_eq!(limit(&proxy), Some(6.0));
    std::fs::remove_file(dir.path().join("config.toml")).unwrap();
    assert_eq!(proxy.push("POST", "/-/reload", "").status, 500);
    assert_eq!(limit(&proxy), Some(6.0));
}
