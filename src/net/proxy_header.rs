//! Reads the header of the PROXY protocol, version 2, with which a load balancer names the
//! client of a connection (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::peer::Peer;
use crate::reason::Reason;
use crate::settings::network::Network;

/// The size of the fixed part. Its last two bytes are the length of the variable part.
const FIXED: usize = 16;

/// The first bytes of every header.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The largest header, in bytes. Addresses take at most 216; the rest are extensions, which
/// the proxy ignores.
const LARGEST: usize = 2048;

/// The time limit for the header. The specification asks for at least 3 seconds, so that a
/// lost packet can be retransmitted.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The load balancers, as networks. Their connections begin with a header.
#[derive(Debug, Clone, Default)]
pub struct Balancers(Option<Arc<[Network]>>);

/// Why a header is not accepted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// It lacks the signature.
    #[error(
        "the connection does not begin with a PROXY protocol header of version 2, which \
         connections from this address must have (receiver.proxy_protocol)"
    )]
    Missing,
    /// It is too long.
    #[error("the PROXY protocol header has {0} bytes; the limit is {LARGEST}")]
    TooLarge(usize),
    /// It cannot be decoded.
    #[error("the PROXY protocol header is malformed")]
    Malformed,
    /// It did not arrive in time.
    #[error("the PROXY protocol header did not arrive within {TIMEOUT:?}")]
    Timeout,
    /// The connection ended before the header was complete.
    #[error("the connection ended inside the PROXY protocol header")]
    Truncated,
}

impl HeaderError {
    pub(super) fn reason(&self) -> Reason {
        match self {
            HeaderError::Missing | HeaderError::Malformed => Reason::Malformed,
            HeaderError::TooLarge(_) => Reason::TooLarge,
            HeaderError::Timeout => Reason::Timeout,
            HeaderError::Truncated => Reason::Truncated,
        }
    }
}

impl Balancers {
    /// The balancers in these networks.
    pub fn new(networks: &[Network]) -> Self {
        Balancers((!networks.is_empty()).then(|| networks.into()))
    }

    /// Whether connections of `peer` begin with a header.
    pub(super) fn contain(&self, peer: Peer) -> bool {
        let (Some(networks), Peer::Tcp(address)) = (&self.0, peer) else {
            return false;
        };
        let ip: IpAddr = address.ip();
        networks.iter().any(|network| network.contains(ip))
    }
}

/// Reads the header and nothing after it. Returns the client; `None` if the balancer itself
/// is the client, as for a health check.
pub(super) async fn read<S>(stream: &mut S) -> Result<Option<SocketAddr>, HeaderError>
where
    S: AsyncRead + Unpin,
{
    let read = timeout(TIMEOUT, read_bytes(stream)).await;
    let bytes = read.unwrap_or(Err(HeaderError::Timeout))?;
    let config = ParseConfig {
        include_tlvs: false,
        allow_v1: false,
        allow_v2: true,
    };
    let (header, _) = ProxyHeader::parse(&bytes, config).map_err(|_| HeaderError::Malformed)?;
    Ok(header.proxied_address().map(|address| address.source))
}

async fn read_bytes<S>(stream: &mut S) -> Result<Vec<u8>, HeaderError>
where
    S: AsyncRead + Unpin,
{
    let truncated = |_| HeaderError::Truncated;
    let mut bytes = vec![0; FIXED];
    let mut read = 0;
    while read < FIXED {
        match stream.read(&mut bytes[read..]).await.map_err(truncated)? {
            0 => return Err(HeaderError::Truncated),
            more => read += more,
        }
        // Check the signature at once: data without a header may be shorter than one.
        let begin = &bytes[..read.min(SIGNATURE.len())];
        if !SIGNATURE.starts_with(begin) {
            return Err(HeaderError::Missing);
        }
    }
    let length = usize::from(u16::from_be_bytes([bytes[FIXED - 2], bytes[FIXED - 1]]));
    let whole = FIXED + length;
    if whole > LARGEST {
        return Err(HeaderError::TooLarge(whole));
    }
    bytes.resize(whole, 0);
    stream
        .read_exact(&mut bytes[FIXED..])
        .await
        .map_err(truncated)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proxy_header::ProxiedAddress;
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// The result of reading `bytes`, and the number of bytes left.
    async fn read_all(bytes: &[u8]) -> (Result<Option<SocketAddr>, HeaderError>, usize) {
        let (mut client, mut server) = tokio::io::duplex(8);
        let write = async {
            let _ = client.write_all(bytes).await;
            drop(client);
        };
        let read = async {
            let found = read(&mut server).await;
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            (found, rest.len())
        };
        tokio::join!(write, read).1
    }

    fn header(address: &str) -> Vec<u8> {
        let source: SocketAddr = address.parse().unwrap();
        let mut bytes = Vec::new();
        ProxyHeader::with_address(ProxiedAddress::stream(source, source))
            .encode_v2(&mut bytes)
            .unwrap();
        bytes
    }

    #[tokio::test]
    async fn the_client_is_read_and_nothing_behind_the_header() {
        for address in ["192.0.2.7:1234", "[2001:db8::7]:1234"] {
            let bytes = [header(address), b"{}".to_vec()].concat();
            let client = address.parse().unwrap();
            assert_eq!(read_all(&bytes).await, (Ok(Some(client)), 2));
        }
        let mut local = Vec::new();
        ProxyHeader::with_local().encode_v2(&mut local).unwrap();
        assert_eq!(read_all(&local).await, (Ok(None), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn other_beginnings_are_rejected_within_bounds() {
        let good = header("192.0.2.7:1234");
        let mut long = good.clone();
        long[14..16].copy_from_slice(&[0xff, 0xff]);
        let mut bad = good.clone();
        bad[12] = 0x31;
        for (bytes, expected) in [
            (b"{\"a\":\"m 1\"}".to_vec(), HeaderError::Missing),
            (b"\r\n\r\n{".to_vec(), HeaderError::Missing),
            (b"PROXY TCP4 a b 1 2\r\n".to_vec(), HeaderError::Missing),
            (Vec::new(), HeaderError::Truncated),
            (good[..14].to_vec(), HeaderError::Truncated),
            (good[..20].to_vec(), HeaderError::Truncated),
            (long, HeaderError::TooLarge(FIXED + 0xffff)),
            (bad, HeaderError::Malformed),
        ] {
            assert_eq!(read_all(&bytes).await.0, Err(expected), "{bytes:?}");
        }
        let (_client, mut server) = tokio::io::duplex(8);
        assert_eq!(read(&mut server).await, Err(HeaderError::Timeout));
    }

    #[test]
    fn only_the_named_networks_have_headers() {
        let balancers = Balancers::new(&[Network::parse("10.0.0.0/8").unwrap()]);
        let peer = |address: &str| Peer::Tcp(address.parse().unwrap());
        assert!(balancers.contain(peer("10.1.2.3:4")));
        assert!(!balancers.contain(peer("192.0.2.1:4")));
        assert!(!balancers.contain(Peer::Unknown));
        assert!(!Balancers::default().contain(peer("10.1.2.3:4")));
    }
}
