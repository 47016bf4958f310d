//! What apps push is what is served.

use crate::harness::{Proxy, capnp_message};

#[test]
fn both_formats_are_taken_on_both_sockets_without_being_told() {
    let proxy = Proxy::start("");
    assert_eq!(proxy.push_tcp(b"{\"json_tcp\":\"a 1\"}"), "");
    assert_eq!(proxy.push_unix(b"{\"json_unix\":[\"b 1\",\"c 2\"]}"), "");
    assert_eq!(proxy.push_tcp(&capnp_message("capnp_tcp", "d 1")), "");
    assert_eq!(proxy.push_unix(&capnp_message("capnp_unix", "e 1\n")), "");
    let metrics = proxy.metrics();
    assert!(
        metrics.ends_with("\nd 1\ne 1\na 1\nb 1\nc 2\n"),
        "{metrics}"
    );
}
