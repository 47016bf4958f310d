/// Settings of the sink.
#[derive(Debug)]
pub struct Config {
    /// The server, as `host:port`.
    pub address: String,
    /// Bytes of lines that wait.
    pub max_queue: usize,
}
