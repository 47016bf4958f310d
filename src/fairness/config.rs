//! The settings of `[limits]`.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::settings::Table;
use crate::settings::value::{
    boolean, integer, positive_duration, size, write_duration, write_size,
};
use crate::telemetry::Limited;

/// The largest rate.
const MAX_RATE: usize = 1_000_000_000;

/// The settings of `[limits]`: how much one sender may send and hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// An idle sender can send the amount of this much time at once.
    #[serde(serialize_with = "write_duration")]
    pub burst: Duration,
    /// Whether the limits on addresses also apply to this machine: to loopback addresses,
    /// and to each user of Unix sockets.
    pub loopback: bool,
    /// Limits on one address: an IPv4 address, or a /64 network of IPv6.
    #[serde(skip_serializing_if = "SenderLimits::is_empty")]
    pub address: SenderLimits,
    /// Limits on one app of the receiver.
    #[serde(skip_serializing_if = "SenderLimits::is_empty")]
    pub app: SenderLimits,
    /// Limits on one user, token or client certificate.
    #[serde(skip_serializing_if = "SenderLimits::is_empty")]
    pub user: SenderLimits,
}

/// The limits on one sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SenderLimits {
    /// Messages each second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<usize>,
    /// Bytes each second.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_size_option"
    )]
    pub bytes_per_second: Option<usize>,
    /// Aggregated series created each second. Apps create none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_series_per_second: Option<usize>,
    /// Memory for exposed text, in bytes.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_size_option"
    )]
    pub memory: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            burst: Duration::from_secs(1),
            loopback: false,
            address: SenderLimits::default(),
            app: SenderLimits::default(),
            user: SenderLimits::default(),
        }
    }
}

/// Reads the table.
pub fn read(mut table: Table<'_>) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        burst: table.take("burst", default.burst, positive_duration),
        loopback: table.take("loopback", default.loopback, boolean),
        address: sender(&mut table, "address"),
        app: sender(&mut table, "app"),
        user: sender(&mut table, "user"),
    };
    table.finish();
    limits
}

fn sender(table: &mut Table<'_>, key: &'static str) -> SenderLimits {
    let Some((mut table, place)) = table.optional_table(key) else {
        return SenderLimits::default();
    };
    // Apps replace their text; they have no aggregated series.
    let creates_series = key != "app";
    let mut keys = vec!["messages_per_second", "bytes_per_second", "memory"];
    if creates_series {
        keys.insert(2, "new_series_per_second");
    }
    if !keys.iter().any(|key| table.place(key).is_some()) {
        let problem = format!("`{}` needs one of {}", table.name(), keys.join(", "));
        table.fault(place, problem);
    }
    let limits = SenderLimits {
        messages_per_second: table.take_option("messages_per_second", integer(1, MAX_RATE)),
        bytes_per_second: table.take_option("bytes_per_second", size),
        new_series_per_second: creates_series
            .then(|| table.take_option("new_series_per_second", integer(1, MAX_RATE)))
            .flatten(),
        memory: table.take_option("memory", size),
    };
    table.finish();
    limits
}

impl Limits {
    /// The limits on senders of a kind.
    pub fn of(&self, limited: Limited) -> &SenderLimits {
        match limited {
            Limited::Address => &self.address,
            Limited::App => &self.app,
            Limited::User => &self.user,
        }
    }

    /// Whether any rate is limited, for any kind of sender.
    pub fn have_rates(&self) -> bool {
        Limited::ALL
            .iter()
            .any(|limited| self.of(*limited).has_rates())
    }
}

impl SenderLimits {
    /// Whether any rate is limited.
    pub fn has_rates(&self) -> bool {
        self.messages_per_second.is_some()
            || self.bytes_per_second.is_some()
            || self.new_series_per_second.is_some()
    }

    fn is_empty(&self) -> bool {
        *self == SenderLimits::default()
    }
}

/// Serializes a size; `None` is skipped.
fn write_size_option<S: Serializer>(size: &Option<usize>, to: S) -> Result<S::Ok, S::Error> {
    write_size(&size.unwrap_or_default(), to)
}
