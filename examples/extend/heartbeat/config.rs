/// Settings of heartbeats.
#[derive(Debug)]
pub struct Config {
    /// The name of the counter.
    pub family: String,
}
