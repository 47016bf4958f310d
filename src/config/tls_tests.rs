//! Lists of HTTP listeners, and `tls` tables.

use super::settle;

#[test]
fn http_listeners_are_one_or_several_with_or_without_tls() {
    let listed = |text: &str| {
        let config = settle("test", text, []).map(|(config, _)| config);
        config.map_err(|problem| problem.to_string())
    };
    let config = listed(
        "[exporter]\nscrape_expose_endpoint = { address = \":1\" }\n\
         [push]\nlisten = [\"127.0.0.1:2\", \"/run/p.sock\", { address = \":1\" }]\n",
    )
    .unwrap();
    let addresses: Vec<_> = config.push.listen.named("push.listen").collect();
    assert_eq!(addresses.len(), 3);
    assert_eq!(addresses[1].0, "push.listen[1]");
    let single = config.exporter.scrape_expose_endpoint.named("x").next();
    assert_eq!(single.unwrap().0, "x");
    let printed = config.to_toml();
    assert_eq!(listed(&printed).unwrap(), config, "{printed}");

    let variable = |text: &str| {
        let variable = ("EXPORTER_PROXY_PUSH_LISTEN".to_owned(), text.to_owned());
        settle("test", "", [variable]).unwrap().0.push.listen
    };
    assert_eq!(variable("127.0.0.1:2,/run/p.sock").iter().count(), 2);
    assert_eq!(
        variable("[\"127.0.0.1:2\", { address = \":1\" }]")
            .iter()
            .count(),
        2
    );
    assert!(variable("").is_empty());

    for (text, expected) in [
        (
            "[push]\nlisten = [\":2\", 3]\n",
            "test:2:17: `push.listen` must be text",
        ),
        (
            "[push]\nlisten = [{ tls = {} }]\n",
            "`push.listen` needs an `address`",
        ),
        (
            "[push]\nlisten = { address = \":2\", tls = {} }\n",
            "`push.listen.tls` needs `cert_file`",
        ),
        (
            "[push]\nlisten = { adress = \":2\" }\n",
            "did you mean `push.listen.address`?",
        ),
        (
            "[push]\nlisten = [\":2\", \"127.0.0.1:2\"]\n",
            "uses the same port as `push.listen`",
        ),
        (
            "[exporter]\nscrape_expose_endpoint = []\n",
            "needs at least one address",
        ),
        (
            "[push]\nlisten = { address = \"/p\", tls = { cert_file = \"a\", key_file = \"b\" } }\n",
            "`push.listen.tls` needs an address with a port",
        ),
    ] {
        let problem = listed(text).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn the_tls_table_of_a_target_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    for (name, content) in [
        ("a.crt", made.cert.pem()),
        ("a.key", made.signing_key.serialize_pem()),
        ("b.key", other.serialize_pem()),
    ] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let checked = |lines: &str| {
        let lines = lines.replace("DIR", &dir.path().display().to_string());
        let text = format!("[[poll_external.targets]]\nurl = \"https://a/\"\n{lines}\n");
        let config = settle("test", &text, []).map(|(config, _)| config);
        config.map_err(|problem| problem.to_string())
    };
    let right =
        "tls = { cert_file = \"DIR/a.crt\", key_file = \"DIR/a.key\", server_name = \"db\" }";
    let config = checked(right).unwrap();
    let printed = config.to_toml();
    assert_eq!(settle("test", &printed, []).unwrap().0, config, "{printed}");
    for (wrong, expected) in [
        (
            "tls = { cert_file = \"DIR/a.crt\" }",
            "needs both `cert_file` and `key_file`",
        ),
        (
            "tls = { cert_file = \"DIR/a.crt\", key_file = \"DIR/b.key\" }",
            "cannot be used together",
        ),
        (
            "tls = { cert_file = \"DIR/a.key\", key_file = \"DIR/a.key\" }",
            "no PEM certificate",
        ),
        ("tls = { server_name = \"a b\" }", "must be a host name"),
        (
            "allow_invalid_certs = true\ntls = { insecure_skip_verify = true }",
            "are one setting; set one of them",
        ),
        (
            "basic_auth = { username = \"a\", password = \"b\", password_file = \"DIR/a.crt\" }",
            "has both `password` and `password_file`",
        ),
        ("header_files = { A = \"DIR/none\" }", "cannot be read"),
        (
            "headers = { A = \"1\" }\nheader_files = { a = \"DIR/a.crt\" }",
            "which is also in `headers`",
        ),
    ] {
        let problem = checked(wrong).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
    }
}
