//! Destinations: RabbitMQ's grammar, and ActiveMQ's where RabbitMQ's has no meaning for the same text.

use crate::{EXCHANGE, mapping::Problem};

/// Bytes of a queue's name or a routing key, as in AMQP 0-9-1.
const NAME_BYTES: usize = 255;

/// Destinations that one header may name.
const DESTINATIONS_MAX: usize = 256;

/// Where a client sends to, or what it subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `/queue/Q`: a queue, which is declared if it is not there.
    Queue(String),
    /// `/amq/queue/Q`: a queue that is there.
    AmqQueue(String),
    /// `/reply-queue/Q`: a queue that somebody waits at for a reply.
    ReplyQueue(String),
    /// `/topic/K`: a routing key of the exchange for topics.
    Topic(String),
    /// `/exchange/X/K`: a routing key, which may be left out, of any exchange.
    Exchange(String, String),
    /// `/temp-queue/N`: a queue of this connection alone.
    TempQueue(String),
    /// `/temp-topic/N`: a topic of this connection alone.
    TempTopic(String),
}

impl Destination {
    /// Whether it is a queue that others may have, too.
    pub fn is_queue(&self) -> bool {
        matches!(self, Self::Queue(_) | Self::AmqQueue(_))
    }

    /// Reads one destination.
    ///
    /// # Errors
    /// What the client is to be told, in RabbitMQ's words.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let Some(path) = text.strip_prefix('/') else {
            if text.contains('/') {
                return Err(unknown(text));
            }
            return if text.is_empty() {
                Err(Problem::new("Invalid destination", "Destination cannot be blank"))
            } else {
                Ok(Self::Queue(unescape(text)?))
            };
        };
        let (kind, rest) = path.split_once('/').map_or((path, None), |(kind, rest)| (kind, Some(rest)));
        // ActiveMQ takes what follows as one name, whatever is in it.
        let name = |kind: &str| match rest {
            None | Some("") => Err(invalid(kind, rest)),
            Some(name) => unescape(name),
        };
        Ok(match kind {
            "queue" => Self::Queue(name("queue")?),
            "topic" => Self::Topic(name("topic")?),
            "temp-queue" => Self::TempQueue(name("temp_queue")?),
            "temp-topic" => Self::TempTopic(name("temp_topic")?),
            "reply-queue" => Self::ReplyQueue(name("reply_queue")?),
            "amq" => match rest.and_then(|rest| rest.strip_prefix("queue")) {
                Some("" | "/") => return Err(invalid("amqqueue", rest)),
                Some(rest) if rest.starts_with('/') => Self::AmqQueue(unescape(&rest[1..])?),
                _ => return Err(unknown(text)),
            },
            "exchange" => {
                let parts: Vec<&str> = rest.unwrap_or_default().split('/').collect();
                match parts[..] {
                    ["", ..] => return Err(invalid("exchange", rest)),
                    [exchange] => Self::Exchange(unescape(exchange)?, String::new()),
                    [exchange, key] => Self::Exchange(unescape(exchange)?, unescape(key)?),
                    _ => return Err(invalid("exchange", rest)),
                }
            }
            _ => return Err(unknown(text)),
        })
    }

    /// Reads what one header may name: a destination, or several with commas between them, as ActiveMQ has it. A
    /// comma stands in a name unless all parts begin with a slash.
    ///
    /// # Errors
    /// What the client is to be told.
    pub fn parse_composite(text: &str) -> Result<Vec<Self>, Problem> {
        let parts: Vec<&str> = text.split(',').collect();
        if parts.len() > 1 && parts.iter().all(|part| part.trim_start().starts_with('/')) {
            if parts.len() > DESTINATIONS_MAX {
                let detail = format!("There may be {DESTINATIONS_MAX} destinations at most\n");
                return Err(Problem::new("Invalid destination", detail));
            }
            return parts.into_iter().map(|part| Self::parse(part.trim())).collect();
        }
        Ok(vec![Self::parse(text)?])
    }

    /// The exchange and routing key that it stands for, but for destinations of one connection alone.
    pub fn routing(&self) -> Option<(&str, &str)> {
        match self {
            Self::Queue(name) | Self::AmqQueue(name) | Self::ReplyQueue(name) => Some(("", name)),
            Self::Topic(key) => Some((EXCHANGE, key)),
            Self::Exchange(exchange, key) => Some((exchange, key)),
            Self::TempQueue(_) | Self::TempTopic(_) => None,
        }
    }
}

fn unknown(text: &str) -> Problem {
    let kinds = "/temp-queue, /exchange, /topic, /queue, /amq/queue, /reply-queue/";
    let detail = format!("'{text}' is not a valid destination.\nValid destination types are: {kinds}.\n");
    Problem::new("Unknown destination", detail)
}

fn invalid(kind: &str, rest: Option<&str>) -> Problem {
    let content = rest.map_or_else(String::new, |rest| format!("/{rest}"));
    Problem::new("Invalid destination", format!("'{content}' is not a valid {kind} destination\n"))
}

/// Whether a reply-to is a destination as it is.
pub fn is_destination(text: &str) -> bool {
    ["/exchange", "/topic", "/queue", "/amq/queue", "/reply-queue/"].iter().any(|prefix| text.starts_with(prefix))
}

/// A binding key, from a topic with ActiveMQ's wildcard for all that follows.
pub fn binding_key(topic: &str) -> String {
    let words: Vec<&str> = topic.split('.').map(|word| if word == ">" { "#" } else { word }).collect();
    words.join(".")
}

/// The destination by which a client knows where a message was sent.
pub fn of_routing(exchange: &str, key: &str) -> String {
    let mut out = String::new();
    match exchange {
        "" => out.push_str("/queue/"),
        EXCHANGE => out.push_str("/topic/"),
        exchange => {
            out.push_str("/exchange/");
            escape(&mut out, exchange);
            if key.is_empty() {
                return out;
            }
            out.push('/');
        }
    }
    escape(&mut out, key);
    out
}

fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'/' | b'%' | 0..32 | 128.. => out.push_str(&format!("%{byte:02X}")),
            byte => out.push(byte.into()),
        }
    }
}

/// A name without its escapes. A percent sign that begins none stands for itself, as for RabbitMQ.
fn unescape(text: &str) -> Result<String, Problem> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.filter(|_| bytes[at] == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    let name = String::from_utf8(out).ok().filter(|name| name.len() <= NAME_BYTES);
    let invalid = || Problem::new("Invalid destination", format!("'{text}' is too long, or not UTF-8\n"));
    name.ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read() {
        let parse = |text| Destination::parse(text).unwrap();
        assert_eq!(parse("q"), Destination::Queue("q".into()));
        assert_eq!(parse("/queue/a%2Fb%"), Destination::Queue("a/b%".into()));
        assert_eq!(parse("/queue/a/b"), Destination::Queue("a/b".into()));
        assert_eq!(parse("/queue/%zz%C3%A9"), Destination::Queue("%zzé".into()));
        assert_eq!(parse("/amq/queue/q"), Destination::AmqQueue("q".into()));
        assert_eq!(parse("/reply-queue/a/b"), Destination::ReplyQueue("a/b".into()));
        assert_eq!(parse("/topic/a.*"), Destination::Topic("a.*".into()));
        assert_eq!(parse("/exchange/x"), Destination::Exchange("x".into(), "".into()));
        assert_eq!(parse("/exchange/x/k%2F"), Destination::Exchange("x".into(), "k/".into()));
        assert_eq!(parse("/temp-queue/t"), Destination::TempQueue("t".into()));
        let many = Destination::parse_composite("/queue/a, /topic/b").unwrap();
        assert_eq!(many, [Destination::Queue("a".into()), Destination::Topic("b".into())]);
        assert_eq!(Destination::parse_composite("/queue/a,b").unwrap(), [Destination::Queue("a,b".into())]);
    }

    #[test]
    fn bad_ones_are_refused_in_rabbitmqs_words() {
        let detail = |text: &str| Destination::parse(text).unwrap_err().detail;
        assert_eq!(detail("/queue/"), "'/' is not a valid queue destination\n");
        assert_eq!(detail("/queue"), "'' is not a valid queue destination\n");
        assert_eq!(detail("/exchange/"), "'/' is not a valid exchange destination\n");
        assert_eq!(detail("/exchange/a/b/c"), "'/a/b/c' is not a valid exchange destination\n");
        assert!(detail("/foo/a").starts_with("'/foo/a' is not a valid destination.\nValid destination types are: "));
        assert_eq!(detail(""), "Destination cannot be blank");
        assert!(detail(&"a".repeat(256)).contains("too long") && detail("/queue/%FF").contains("not UTF-8"));
    }

    #[test]
    fn what_is_told_can_be_read() {
        for (exchange, key) in [("", "a/b%é"), (EXCHANGE, "a.b"), ("x/y", ""), ("x", "k")] {
            let text = of_routing(exchange, key);
            assert_eq!(Destination::parse(&text).unwrap().routing(), Some((exchange, key)), "{text}");
        }
        assert_eq!(binding_key("a.>"), "a.#");
        assert_eq!(binding_key("a>.*"), "a>.*");
    }
}
