//! Ends a connection so that its last bytes arrive.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// The limits on reading after the last bytes, in time and bytes.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 16 << 20;

/// The number of bytes read at once.
const READ_SIZE: usize = 4 << 10;

/// Writes the last bytes to a peer that is turned away, and ends this side. Then reads and
/// discards what the peer has sent until it ends its side: closing with unread bytes resets
/// the connection, and the peer may lose the answer.
pub async fn turn_away<S>(stream: &mut S, answer: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answered = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        let mut unread = vec![0; READ_SIZE];
        let mut left = LINGER_BYTES;
        while left > 0 {
            let read = stream.read(&mut unread).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        io::Result::Ok(())
    };
    // The peer may have disconnected.
    let _ = timeout(LINGER_TIME, answered).await;
}
