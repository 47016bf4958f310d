//! Properties of the PROXY protocol, for tests and `fuzz/`.

use tokio::runtime::Builder;

use super::proxy_header;

/// The bytes after a header.
const REST: &[u8] = b"the rest";

/// The beginning of a connection from a load balancer. A header is read to its end and no further.
pub fn proxy_header(data: &[u8]) {
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime needs nothing");
    runtime.block_on(async {
        let mut stream = data;
        let Ok(client) = proxy_header::read(&mut stream).await else {
            return;
        };
        let header = &data[..data.len() - stream.len()];
        let longer = [header, REST].concat();
        let mut stream = longer.as_slice();
        let again = proxy_header::read(&mut stream).await;
        assert_eq!(again.ok(), Some(client));
        assert_eq!(stream, REST);
    });
}
