//! `amqp://user:password@host:port/vhost`, as RabbitMQ defines it, and the same with other protocols: `mqtt://` and
//! `tcp://` (OpenWire, as clients of ActiveMQ have it) without a path, `stomp://` with one.

use std::fmt;

use crate::error::Error;

/// The protocol that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Amqp,
    Mqtt,
    Stomp,
    OpenWire,
}

impl Scheme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Mqtt => "mqtt",
            Self::Stomp => "stomp",
            Self::OpenWire => "tcp",
        }
    }

    /// Whether it is one of those that brokers of JMS speak.
    pub(crate) fn is_jms(self) -> bool {
        matches!(self, Self::Stomp | Self::OpenWire)
    }

    fn has_vhosts(self) -> bool {
        matches!(self, Self::Amqp | Self::Stomp)
    }

    fn port(self) -> u16 {
        match self {
            Self::Amqp => 5672,
            Self::Mqtt => 1883,
            Self::Stomp => 61613,
            Self::OpenWire => 61616,
        }
    }

    /// Who we are where nothing is said: an MQTT client may be nobody.
    fn login(self) -> &'static str {
        match self {
            Self::Amqp | Self::Stomp | Self::OpenWire => "guest:guest",
            Self::Mqtt => "",
        }
    }
}

/// Where the broker is and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uri {
    pub(crate) scheme: Scheme,
    /// Empty: anonymous.
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Empty with MQTT and OpenWire.
    pub(crate) vhost: String,
}

impl Uri {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        Self::parts(text).map_err(|why| Error::Uri { uri: text.to_owned(), why })
    }

    fn parts(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("amqp", rest)) => (Scheme::Amqp, rest),
            Some(("mqtt", rest)) => (Scheme::Mqtt, rest),
            Some(("stomp", rest)) => (Scheme::Stomp, rest),
            Some(("tcp", rest)) => (Scheme::OpenWire, rest),
            Some(("amqps" | "mqtts" | "stomp+ssl" | "ssl", _)) => {
                return Err("TLS is not supported by the load generator yet");
            }
            Some(_) => return Err("the scheme must be amqp, mqtt, stomp or tcp"),
            None => return Err("it must begin with amqp://, mqtt://, stomp:// or tcp://"),
        };
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        let (authority, vhost) = match rest.split_once('/') {
            Some((authority, vhost)) => (authority, decode(vhost)?),
            None => (rest, if scheme.has_vhosts() { "/".to_owned() } else { String::new() }),
        };
        if !scheme.has_vhosts() && !vhost.is_empty() {
            return Err("MQTT and OpenWire have no path");
        }
        let (user_info, address) = authority.rsplit_once('@').unwrap_or((scheme.login(), authority));
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        let (host, port) = host_and_port(address)?;
        let port = port.unwrap_or(scheme.port());
        Ok(Self { scheme, user: decode(user)?, password: decode(password)?, host, port, vhost })
    }

    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Without the password: this form goes into reports.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.user.is_empty() { "" } else { "@" };
        write!(f, "{}://{}{at}{}", self.scheme.name(), self.user, self.address())?;
        match self.vhost.as_str() {
            _ if !self.scheme.has_vhosts() => Ok(()),
            "/" => f.write_str("/%2F"),
            vhost => write!(f, "/{vhost}"),
        }
    }
}

fn host_and_port(address: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, port) = if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("an IPv6 address lacks its ]")?;
        (host.to_owned(), after.strip_prefix(':'))
    } else {
        match address.rsplit_once(':') {
            Some((host, port)) => (decode(host)?, Some(port)),
            None => (decode(address)?, None),
        }
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) => Some(digits.parse().map_err(|_| "the port is not a number up to 65535")?),
    };
    let host = if host.is_empty() { "127.0.0.1".to_owned() } else { host };
    Ok((host, port))
}

fn decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()).ok_or("% without two digits")?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| "% without two hexadecimal digits")?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, user: &str, password: &str, host: &str, port: u16, vhost: &str) {
        let uri = Uri::parse(text).unwrap();
        let parts = (&*uri.user, &*uri.password, &*uri.host, uri.port, &*uri.vhost);
        assert_eq!(parts, (user, password, host, port, vhost), "{text}");
    }

    #[test]
    fn takes_apart_every_form() {
        check("amqp://guest:guest@127.0.0.1:5672/%2F", "guest", "guest", "127.0.0.1", 5672, "/");
        check("amqp://h", "guest", "guest", "h", 5672, "/");
        check("amqp://h:1", "guest", "guest", "h", 1, "/");
        check("amqp://u@h/v", "u", "", "h", 5672, "v");
        check("amqp://u:p%40%3a@h/a%2fb", "u", "p@:", "h", 5672, "a/b");
        check("amqp://u:p@[::1]:25/", "u", "p", "::1", 25, "");
        check("amqp://u:p@[::1]", "u", "p", "::1", 5672, "/");
        check("amqp://h/v?heartbeat=10", "guest", "guest", "h", 5672, "v");
        check("mqtt://h", "", "", "h", 1883, "");
        check("mqtt://u:p@[::1]:7/", "u", "p", "::1", 7, "");
        check("tcp://h", "guest", "guest", "h", 61616, "");
        check("stomp://u:p@h:7/v", "u", "p", "h", 7, "v");
        check("stomp://h", "guest", "guest", "h", 61613, "/");
    }

    #[test]
    fn refuses_nonsense() {
        for text in [
            "",
            "h:5672",
            "http://h",
            "amqps://h",
            "amqp://h:99999",
            "amqp://h/%2",
            "amqp://h/%zz",
            "amqp://[::1",
            "mqtt://h/v",
            "tcp://h/v",
            "ssl://h",
        ] {
            assert!(matches!(Uri::parse(text), Err(Error::Uri { .. })), "{text}");
        }
    }

    #[test]
    fn shows_no_password() {
        let shown = Uri::parse("amqp://u:secret@[::1]:7/%2F").unwrap().to_string();
        assert_eq!(shown, "amqp://u@[::1]:7/%2F");
        assert_eq!(Uri::parse("mqtt://u:secret@h").unwrap().to_string(), "mqtt://u@h:1883");
        assert_eq!(Uri::parse("mqtt://h:2/").unwrap().to_string(), "mqtt://h:2");
    }
}
