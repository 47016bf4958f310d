//! Ends a connection so that its last bytes arrive.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The limit on writing the last bytes, and again on reading after them.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// The number of bytes read at once.
const READ_SIZE: usize = 4 << 10;

/// Writes the last bytes to a peer that is turned away, and ends this side. Then reads and
/// discards what the peer has sent until it ends its side: closing with unread bytes resets
/// the connection, and the peer may lose the answer.
pub async fn turn_away<S>(stream: &mut S, answer: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // The peer may have disconnected.
    if !write_last(stream, answer).await {
        return;
    }
    let rest = async {
        let mut unread = vec![0; READ_SIZE];
        while stream.read(&mut unread).await.is_ok_and(|read| read > 0) {}
    };
    let _ = timeout(LINGER_TIME, rest).await;
}

/// Writes the last bytes, and ends this side. Returns whether the peer may read them.
pub async fn write_last<S: AsyncWrite + Unpin>(stream: &mut S, answer: &[u8]) -> bool {
    let written = async {
        stream.write_all(answer).await?;
        stream.shutdown().await
    };
    matches!(timeout(LINGER_TIME, written).await, Ok(Ok(())))
}
