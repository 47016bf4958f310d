//! Networks of addresses, in CIDR notation.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

/// Addresses with a common prefix, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The bits after the prefix are zero.
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `address/bits`, or an address alone.
    ///
    /// # Errors
    ///
    /// What is wrong, to complete a sentence that begins with the name of a setting.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "must be networks such as \"10.0.0.0/8\" or \"fd00::/8\", or addresses, not {text:?}"
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|bits| *bits <= longest)
                .ok_or_else(wrong)?,
        };
        let network = Network { address, prefix };
        let first = network.first();
        if first != address {
            return Err(format!(
                "has {text}, an address within a network: write {first}/{prefix} for the network, or \
                 {address} for the address"
            ));
        }
        Ok(network)
    }

    /// The address with its bits after the prefix set to zero.
    fn first(&self) -> IpAddr {
        masked(self.address, self.prefix)
    }

    /// Whether an address is in the network. An IPv4 address that was mapped to IPv6 is
    /// that IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

/// An address with its bits after the prefix set to zero.
pub fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::/0", "fd00::1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
        ] {
            let network = Network::parse(network).unwrap();
            let contains = network.contains(address.parse().unwrap());
            assert_eq!(contains, expected, "{network} {address}");
        }
    }

    #[test]
    fn networks_are_exact() {
        for wrong in [
            "",
            "10",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/x",
            "host/8",
            "10.0.0.0/-1",
        ] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
        let problem = Network::parse("10.1.2.3/8").unwrap_err();
        assert!(problem.contains("write 10.0.0.0/8"), "{problem}");
    }
}
