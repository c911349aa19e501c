//! Which addresses may connect, and which of them may log in as whom.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use anyhow::{Context, bail};
use serde::Deserialize;

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    bits: u8,
}

/// An address as a number, and how many bits it has.
fn number(address: IpAddr) -> (u128, u8) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}

impl Cidr {
    /// Whether an address is in the range. One of IPv4 that comes as IPv6 (`::ffff:10.0.0.1`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let ((network, width), (address, other)) = (number(self.network), number(address));
        let shift = u32::from(width - self.bits);
        width == other && network.checked_shr(shift).unwrap_or(0) == address.checked_shr(shift).unwrap_or(0)
    }
}

impl FromStr for Cidr {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().with_context(|| format!("'{text}' is not a range of addresses"))?;
        let (value, width) = number(network);
        let bits = match bits {
            None => width,
            Some(bits) => bits.parse().with_context(|| format!("'{text}' is not a range of addresses"))?,
        };
        if bits > width {
            bail!("'{text}' is not a range of addresses: a prefix has {width} bits at most");
        }
        // A range that names an address in its middle is a mistake more often than not.
        let host = value & !u128::MAX.checked_shl(u32::from(width - bits)).unwrap_or(0);
        if host != 0 {
            bail!("'{text}' is not a range of addresses: there are bits behind the prefix");
        }
        Ok(Self { network: network.to_canonical(), bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error: anyhow::Error| serde::de::Error::custom(format!("{error:#}")))
    }
}

/// Addresses that may connect, by listener, and log in, by user. Without a list every address may.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Access {
    /// Addresses that may connect to AMQP listeners.
    pub amqp: Vec<Cidr>,
    /// Addresses that may connect to MQTT listeners, over WebSocket too.
    pub mqtt: Vec<Cidr>,
    /// Addresses that may connect to STOMP listeners, over WebSocket too.
    pub stomp: Vec<Cidr>,
    /// Addresses that may connect to OpenWire listeners.
    pub openwire: Vec<Cidr>,
    /// Addresses that may use the management API and the console.
    pub management: Vec<Cidr>,
    /// Addresses that may get metrics.
    pub prometheus: Vec<Cidr>,
    /// Addresses that may log in as a user.
    pub users: BTreeMap<String, Vec<Cidr>>,
}

impl Access {
    /// Whether a list lets an address in.
    pub fn allows(list: &[Cidr], address: IpAddr) -> bool {
        list.is_empty() || list.iter().any(|range| range.contains(address))
    }

    /// Whether a user may log in from an address. An empty list of his lets nobody in.
    pub fn allows_user(&self, user: &str, address: IpAddr) -> bool {
        let mut lists = self.users.iter().filter(|(name, _)| is_same_user(name, user)).map(|(_, list)| list);
        lists.all(|list| list.iter().any(|range| range.contains(address)))
    }
}

/// Whether two names may be of one user: directories take `alice` and `Alice ` for the same.
pub fn is_same_user(one: &str, other: &str) -> bool {
    one == other || plain(one) == plain(other)
}

/// A user's name as a directory compares it, more or less.
pub fn plain(user: &str) -> String {
    user.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_what_has_their_prefix() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.168.1.7", "192.168.1.7", "192.168.1.8"),
            ("192.168.1.4/30", "192.168.1.7", "192.168.1.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1/128", "::1", "::2"),
            ("::ffff:10.0.0.0/8", "10.1.2.3", "11.1.2.3"),
        ] {
            let cidr: Cidr = range.parse().unwrap();
            assert!(cidr.contains(inside.parse().unwrap()), "{range} has {inside}");
            assert!(!cidr.contains(outside.parse().unwrap()), "{range} has not {outside}");
        }
        assert!("10.0.0.0/8".parse::<Cidr>().unwrap().contains("::ffff:10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.1/8", "::1/129", "::1/64", "host/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn users_without_a_list_may_come_from_anywhere() {
        let access: Access = toml::from_str("[users]\nops = ['10.0.0.0/8']\nnobody = []").unwrap();
        let (near, far) = ("10.1.1.1".parse().unwrap(), "11.1.1.1".parse().unwrap());
        assert!(access.allows_user("ops", near) && !access.allows_user("ops", far));
        assert!(access.allows_user("OPS", near) && !access.allows_user(" Ops", far));
        assert!(!access.allows_user("nobody", near) && access.allows_user("other", far));
        assert!(Access::allows(&access.amqp, far));
    }
}
