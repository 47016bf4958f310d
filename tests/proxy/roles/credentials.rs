//! Passwords, tokens and certificates: guessing, files that change, the web configuration.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::{ask, basic, files, hash, metric, start};
use crate::harness::certificates::{Authority, Pair};
use crate::harness::{eventually, output_of, program};

#[test]
fn guessing_is_slowed_and_unknown_users_cost_as_much_as_known_ones() {
    let dir = files(&["alice"], &[]);
    let proxy = start(
        &dir,
        "[web]\nconfig_file = \"DIR/web.yml\"\n[[web.access]]\nrole = \"read\"\nallow_from = \"127.0.0.1\"\n",
    );
    let push = |user, password| ask(&proxy.push, "PUT", "/metrics/job/x", &basic(user, password));
    let checks = || metric(&proxy, "", "exporter_proxy_password_checks_total");
    let begun = Instant::now();
    for (user, password, status, expected) in [
        ("alice", "alice", 200, 1.0),
        ("alice", "alice", 200, 1.0),
        ("alice", "guess", 401, 2.0),
        ("nobody", "guess", 401, 3.0),
        ("", "", 401, 4.0),
    ] {
        assert_eq!(push(user, password).status, status, "{user}");
        assert_eq!(checks(), expected, "{user}");
    }
    let mut statuses = Vec::new();
    let mut slowed = None;
    for _ in 0..40 {
        let answer = push("alice", "guess");
        statuses.push(answer.status);
        slowed = Some(answer)
            .filter(|answer| answer.status == 429)
            .or(slowed);
    }
    let wrong = statuses.iter().filter(|status| **status == 401).count();
    // Twenty failures, of which three are above, and one more each two seconds.
    let most = 18 + begun.elapsed().as_secs() as usize / 2;
    assert!((17..=most).contains(&wrong), "{statuses:?}");
    let slowed = slowed.expect("a slowed attempt");
    let wait: u64 = slowed.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3).contains(&wait), "{wait}");
    // Past the limit even the right password gets that reply, and no password is checked.
    assert!(checks() <= 4.0 + wrong as f64);
    let series =
        "exporter_proxy_authentications_total{credential=\"password\",result=\"throttled\"}";
    assert_eq!(metric(&proxy, "", series), (40 - wrong) as f64);
    // After a pause it works again.
    eventually(|| push("alice", "alice").status, |status| *status == 200);
}

#[test]
fn files_are_read_again_when_they_change() {
    let dir = files(&["alice"], &["token"]);
    let proxy = start(
        &dir,
        "[web]\nconfig_file = \"DIR/web.yml\"\n\
         [[web.access]]\nrole = \"read\"\nallow_from = [\"127.0.0.0/8\"]\n\
         [[web.access]]\nrole = \"write\"\ntoken_file = \"DIR/token\"\n\
         [[web.access]]\nrole = \"write\"\nuser = \"alice\"\n",
    );
    let push = |authorization: &str| ask(&proxy.push, "PUT", "/metrics/job/x", authorization);
    let good = |authorization: &str| push(authorization).status == 200;
    assert!(good("Bearer token") && good(&basic("alice", "alice")));
    // Two tokens, for a rotation without a gap.
    fs::write(dir.path().join("token"), "token\n\nnewer\n").unwrap();
    let reloads = || proxy.log().matches("have changed and are in use").count();
    eventually(reloads, |reloads| *reloads == 1);
    assert!(good("Bearer token") && good("Bearer newer"));
    fs::write(dir.path().join("token"), "newer").unwrap();
    eventually(reloads, |reloads| *reloads == 2);
    assert!(good("Bearer newer") && !good("Bearer token"));

    let state = "exporter_proxy_web_files_last_load_successful";
    assert_eq!(metric(&proxy, "", state), 1.0);
    // An invalid file changes only the metric and the log.
    fs::write(
        dir.path().join("web.yml"),
        "basic_auth_users:\n  alice: secret\n",
    )
    .unwrap();
    eventually(|| metric(&proxy, "", state), |state| *state == 0.0);
    assert!(good(&basic("alice", "alice")));
    let log = proxy.log();
    assert!(
        log.contains("web.yml:2:10: the password of user \"alice\" is not a bcrypt hash"),
        "{log}"
    );
    let text = format!(
        "basic_auth_users:\n  alice: {}\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n",
        hash("changed")
    );
    fs::write(dir.path().join("web.yml"), text).unwrap();
    eventually(|| metric(&proxy, "", state), |state| *state == 1.0);
    assert!(good(&basic("alice", "changed")) && !good(&basic("alice", "alice")));
    let answer = push(&basic("alice", "changed"));
    assert_eq!(answer.header("x-frame-options"), Some("deny"));
    assert_eq!(push("").header("x-frame-options"), Some("deny"));
}

#[test]
fn the_web_configuration_turns_on_tls_and_certificates_have_roles() {
    let dir = files(&[], &[]);
    let authority = Authority::new(dir.path(), "ca");
    authority.issue("server");
    let reader = authority.issue_for("reader", &["a.reader.example"], |_| {});
    let writer = authority.issue_for("writer", &["writer.example"], |_| {});
    // Paths are relative to the file, as with exporter-toolkit.
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let server = dir.path().join("server");
    let text = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\n  client_ca_file: {}\n  \
         client_auth_type: VerifyClientCertIfGiven\n",
        name(&server.with_extension("crt")),
        name(&server.with_extension("key")),
        name(&authority.ca),
    );
    fs::write(dir.path().join("web.yml"), text).unwrap();
    let proxy = start(
        &dir,
        "[web]\nconfig_file = \"DIR/web.yml\"\n\
         [[web.access]]\nrole = \"read\"\nclient_name = \"*.reader.example\"\n\
         [[web.access]]\nrole = \"write\"\nclient_name = \"writer.example\"\n",
    );
    let curl = |own: Option<&Pair>, arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(&authority.ca)
            .args(arguments);
        if let Some(own) = own {
            curl.arg("--cert").arg(&own.cert).arg("--key").arg(&own.key);
        }
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    let metrics = format!("https://{}/metrics", proxy.http);
    let group = format!("https://{}/metrics/job/x", proxy.push);
    for version in ["--http1.1", "--http2"] {
        let scrape = |own| curl(own, &[version, &metrics]);
        let push = |own| curl(own, &[version, "--data-binary", "m 1\n", &group]);
        assert_eq!((scrape(None), push(None)), ("403".into(), "403".into()));
        assert_eq!(scrape(Some(&reader)), "200", "{version}");
        assert_eq!(push(Some(&reader)), "403", "{version}");
        assert_eq!(scrape(Some(&writer)), "403", "{version}");
        assert_eq!(push(Some(&writer)), "200", "{version}");
    }
}

#[test]
fn passwords_are_hashed_for_the_web_configuration() {
    let run = |input: &[u8]| {
        let output = output_of(program().arg("hash-password"), input);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, hash, problem) = run(b"correct horse\n");
    assert_eq!((code, &*problem), (Some(0), ""));
    assert!(
        bcrypt::verify("correct horse", hash.trim_end()).unwrap(),
        "{hash}"
    );
    let (code, hash, problem) = run(b"\n");
    assert_eq!((code, &*hash), (Some(1), ""));
    assert!(problem.contains("the password is empty"), "{problem}");
    let (code, hash, problem) = run(b"correct horse\nbattery\n");
    assert_eq!((code, &*hash), (Some(1), ""));
    assert!(problem.contains("more than one line"), "{problem}");
    let (code, _, problem) = run("x".repeat(80).as_bytes());
    assert_eq!(code, Some(1));
    assert!(
        problem.contains("80 bytes; bcrypt takes at most 72"),
        "{problem}"
    );
}
