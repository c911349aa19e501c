//! A message's properties (specification section 1.8.3): what the broker looks at, and the few changes that it makes.

use broker::{
    Codec,
    topology::Facts,
    value::{Table, Value},
};

use crate::wire::{Malformed, Reader, put_annotations, put_shortstr, put_table};

mod flag {
    pub(super) const CONTENT_TYPE: u16 = 1 << 15;
    pub(super) const CONTENT_ENCODING: u16 = 1 << 14;
    pub(super) const HEADERS: u16 = 1 << 13;
    pub(super) const DELIVERY_MODE: u16 = 1 << 12;
    pub(super) const PRIORITY: u16 = 1 << 11;
    pub(super) const CORRELATION_ID: u16 = 1 << 10;
    pub(super) const REPLY_TO: u16 = 1 << 9;
    pub(super) const EXPIRATION: u16 = 1 << 8;
    pub(super) const MESSAGE_ID: u16 = 1 << 7;
    pub(super) const TIMESTAMP: u16 = 1 << 6;
    pub(super) const TYPE: u16 = 1 << 5;
    pub(super) const USER_ID: u16 = 1 << 4;
    pub(super) const APP_ID: u16 = 1 << 3;
    pub(super) const CLUSTER_ID: u16 = 1 << 2;
}

/// What the broker looks at in a message's properties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// The properties as they came: flags, then values.
    pub raw: &'a [u8],
    /// The encoded headers, with their length.
    headers: Option<&'a [u8]>,
    /// 2 for a message that is to survive a restart.
    pub delivery_mode: Option<u8>,
    /// Its priority.
    pub priority: Option<u8>,
    /// Where to send a reply.
    pub reply_to: Option<&'a str>,
    /// Milliseconds to live, as text.
    pub expiration: Option<&'a str>,
    /// Who says that he sent it.
    pub user_id: Option<&'a str>,
}

impl<'a> Properties<'a> {
    /// Reads properties in one pass.
    ///
    /// # Errors
    /// If a property ends beyond the frame or is not text where it must be.
    pub fn read(raw: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(raw);
        let flags = reader.short()?;
        // The lowest bit would announce more flags; no property has one there.
        if flags & 0b11 != 0 {
            return Err(Malformed("unknown properties"));
        }
        let mut properties = Self { raw, ..Self::default() };
        let has = |flag| flags & flag != 0;
        for flag in [flag::CONTENT_TYPE, flag::CONTENT_ENCODING] {
            if has(flag) {
                reader.shortstr()?;
            }
        }
        if has(flag::HEADERS) {
            let start = reader.rest();
            let len = 4 + reader.longstr()?.len();
            properties.headers = start.get(..len);
        }
        if has(flag::DELIVERY_MODE) {
            properties.delivery_mode = Some(reader.octet()?);
        }
        if has(flag::PRIORITY) {
            properties.priority = Some(reader.octet()?);
        }
        if has(flag::CORRELATION_ID) {
            reader.shortstr()?;
        }
        if has(flag::REPLY_TO) {
            properties.reply_to = Some(reader.shortstr()?);
        }
        if has(flag::EXPIRATION) {
            properties.expiration = Some(reader.shortstr()?);
        }
        if has(flag::MESSAGE_ID) {
            reader.shortstr()?;
        }
        if has(flag::TIMESTAMP) {
            reader.longlong()?;
        }
        if has(flag::TYPE) {
            reader.shortstr()?;
        }
        if has(flag::USER_ID) {
            properties.user_id = Some(reader.shortstr()?);
        }
        for flag in [flag::APP_ID, flag::CLUSTER_ID] {
            if has(flag) {
                reader.shortstr()?;
            }
        }
        Ok(properties)
    }

    /// Whether the message is to survive a restart.
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode == Some(2)
    }

    /// Whether there are headers.
    pub fn has_headers(&self) -> bool {
        self.headers.is_some()
    }

    /// The headers.
    ///
    /// # Errors
    /// If they are malformed.
    pub fn headers(&self) -> Result<Table, Malformed> {
        self.headers.map_or_else(|| Ok(Table::default()), |bytes| Reader::new(bytes).table())
    }

    /// Further routing keys that the sender put into a header (`CC`, `BCC`).
    ///
    /// # Errors
    /// The name of its type if it is not an array. What is not text in it is passed over.
    pub fn further_keys(headers: &Table, name: &str) -> Result<Vec<String>, &'static str> {
        let Some(value) = headers.get(name) else { return Ok(Vec::new()) };
        let Value::Array(values) = value else { return Err(value.type_name()) };
        Ok(values.iter().filter_map(Value::as_text).map(str::to_owned).collect())
    }

    /// The properties with other headers.
    pub fn with_headers(&self, headers: &Table) -> Vec<u8> {
        let Some(old) = self.headers else { return self.raw.to_vec() };
        let mut table = Vec::new();
        put_table(&mut table, headers);
        self.replace(old, &table)
    }

    /// The properties as the broker delivers them: with the headers that it adds, all sorted by name as RabbitMQ does,
    /// and for a dead letter without its time to live.
    ///
    /// # Errors
    /// If the headers are malformed.
    pub fn annotated(&self, annotations: Table) -> Result<Vec<u8>, Malformed> {
        let is_from_stream = annotations.get("x-stream-offset").is_some();
        let is_dead = annotations.get("x-death").is_some();
        let mut headers = annotations;
        headers.0.retain(|(name, _)| name.starts_with("x-"));
        for (name, value) in self.headers()?.0 {
            if headers.get(&name).is_none() {
                headers.0.push((name, value));
            }
        }
        headers.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut table = Vec::new();
        put_table(&mut table, &headers);
        let mut out = match self.headers {
            Some(old) => self.replace(old, &table),
            None => self.inserted_headers(&table)?,
        };
        if is_dead {
            out = Properties::read(&out)?.without_expiration();
        }
        if is_from_stream && self.delivery_mode.is_none() {
            // As RabbitMQ does.
            return Properties::read(&out)?.with_delivery_mode(1);
        }
        Ok(out)
    }

    /// Properties without headers as they are delivered with annotations and nothing else; nothing if they have headers. The
    /// same as [`Properties::annotated`], but quick.
    pub fn quickly_annotated(raw: &[u8], annotations: &[u8]) -> Option<Vec<u8>> {
        let properties = Properties::read(raw).ok()?;
        if properties.has_headers() {
            return None;
        }
        let mut table = Vec::with_capacity(2 * annotations.len());
        put_annotations(&mut table, annotations).ok()?;
        let is_dead = table.windows(DEATHS.len()).any(|window| window == DEATHS);
        let mut out = properties.inserted_headers(&table).ok()?;
        if is_dead && properties.expiration.is_some() {
            out = Properties::read(&out).ok()?.without_expiration();
        }
        Some(out)
    }

    /// The properties without a time to live.
    fn without_expiration(&self) -> Vec<u8> {
        let mut out = self.raw.to_vec();
        if let Some(expiration) = self.expiration {
            let start = expiration.as_ptr() as usize - self.raw.as_ptr() as usize - 1;
            out.drain(start..start + 1 + expiration.len());
            let flags = u16::from_be_bytes([out[0], out[1]]) & !flag::EXPIRATION;
            out[..2].copy_from_slice(&flags.to_be_bytes());
        }
        out
    }

    /// Properties without headers as a stream delivers them, which has to be quick; nothing if they have headers.
    pub fn with_stream_offset(raw: &[u8], offset: u64) -> Option<Vec<u8>> {
        const NAME: &[u8] = b"\x0fx-stream-offset";
        let mut reader = Reader::new(raw);
        let flags = reader.short().ok()?;
        if flags & flag::HEADERS != 0 {
            return None;
        }
        for flag in [flag::CONTENT_TYPE, flag::CONTENT_ENCODING] {
            if flags & flag != 0 {
                reader.shortstr().ok()?;
            }
        }
        let rest = reader.rest();
        let mut out = Vec::with_capacity(raw.len() + NAME.len() + 14);
        out.extend_from_slice(&(flags | flag::HEADERS | flag::DELIVERY_MODE).to_be_bytes());
        out.extend_from_slice(&raw[2..raw.len() - rest.len()]);
        out.extend_from_slice(&(NAME.len() as u32 + 9).to_be_bytes());
        out.extend_from_slice(NAME);
        out.push(b'l');
        out.extend_from_slice(&offset.to_be_bytes());
        if flags & flag::DELIVERY_MODE == 0 {
            out.push(1);
        }
        out.extend_from_slice(rest);
        Some(out)
    }

    /// Properties that are nothing but headers.
    pub fn of_headers(headers: &Table) -> Vec<u8> {
        let mut out = flag::HEADERS.to_be_bytes().to_vec();
        put_table(&mut out, headers);
        out
    }

    /// Properties that another protocol wrote, by their names here. What has another type than it should is left out.
    pub fn of_table(table: &Table) -> Vec<u8> {
        let (mut flags, mut values) = (0_u16, Vec::new());
        for (name, flag, form) in LAYOUT {
            let Some(value) = table.get(name) else { continue };
            match (form, value) {
                (Form::Short, Value::Text(_)) => match value.as_text() {
                    Some(text) => put_shortstr(&mut values, text),
                    None => continue,
                },
                (Form::Octet, Value::U8(octet)) => values.push(*octet),
                (Form::Table, Value::Table(table)) => put_table(&mut values, table),
                (Form::Timestamp, Value::Timestamp(seconds)) => values.extend_from_slice(&seconds.to_be_bytes()),
                _ => continue,
            }
            flags |= flag;
        }
        let mut out = flags.to_be_bytes().to_vec();
        out.append(&mut values);
        out
    }

    /// The properties with a delivery mode where there was none.
    fn with_delivery_mode(&self, mode: u8) -> Result<Vec<u8>, Malformed> {
        let flags = Reader::new(self.raw).short()?;
        let before =
            self.headers.map_or(2, |headers| headers.as_ptr() as usize - self.raw.as_ptr() as usize + headers.len());
        let mut out = (flags | flag::DELIVERY_MODE).to_be_bytes().to_vec();
        out.extend_from_slice(&self.raw[2..before]);
        out.push(mode);
        out.extend_from_slice(&self.raw[before..]);
        Ok(out)
    }

    /// The properties with headers where there were none.
    fn inserted_headers(&self, table: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut reader = Reader::new(self.raw);
        let flags = reader.short()?;
        for flag in [flag::CONTENT_TYPE, flag::CONTENT_ENCODING] {
            if flags & flag != 0 {
                reader.shortstr()?;
            }
        }
        let place = self.raw.len() - reader.rest().len();
        let mut out = (flags | flag::HEADERS).to_be_bytes().to_vec();
        out.extend_from_slice(&self.raw[2..place]);
        out.extend_from_slice(table);
        out.extend_from_slice(&self.raw[place..]);
        Ok(out)
    }

    /// Milliseconds to live, for properties that have been checked.
    pub fn ttl_ms(&self) -> Option<u64> {
        self.expiration.and_then(|text| text.parse::<i64>().ok()).and_then(|ms| u64::try_from(ms).ok())
    }

    /// The properties with another reply-to.
    pub fn with_reply_to(&self, reply_to: &str) -> Vec<u8> {
        let Some(old) = self.reply_to else { return self.raw.to_vec() };
        let start = old.as_ptr() as usize - self.raw.as_ptr() as usize - 1;
        let mut text = Vec::new();
        put_shortstr(&mut text, reply_to);
        let mut out = self.raw[..start].to_vec();
        out.extend_from_slice(&text);
        out.extend_from_slice(&self.raw[start + 1 + old.len()..]);
        out
    }

    fn replace(&self, old: &[u8], new: &[u8]) -> Vec<u8> {
        let start = old.as_ptr() as usize - self.raw.as_ptr() as usize;
        let mut out = self.raw[..start].to_vec();
        out.extend_from_slice(new);
        out.extend_from_slice(&self.raw[start + old.len()..]);
        out
    }
}

/// How a property is encoded.
#[derive(Clone, Copy)]
enum Form {
    Short,
    Octet,
    Table,
    Timestamp,
}

/// The properties in the order in which they are encoded.
const LAYOUT: [(&str, u16, Form); 14] = [
    ("content_type", flag::CONTENT_TYPE, Form::Short),
    ("content_encoding", flag::CONTENT_ENCODING, Form::Short),
    ("headers", flag::HEADERS, Form::Table),
    ("delivery_mode", flag::DELIVERY_MODE, Form::Octet),
    ("priority", flag::PRIORITY, Form::Octet),
    ("correlation_id", flag::CORRELATION_ID, Form::Short),
    ("reply_to", flag::REPLY_TO, Form::Short),
    ("expiration", flag::EXPIRATION, Form::Short),
    ("message_id", flag::MESSAGE_ID, Form::Short),
    ("timestamp", flag::TIMESTAMP, Form::Timestamp),
    ("type", flag::TYPE, Form::Short),
    ("user_id", flag::USER_ID, Form::Short),
    ("app_id", flag::APP_ID, Form::Short),
    ("cluster_id", flag::CLUSTER_ID, Form::Short),
];

impl Properties<'_> {
    /// The value of a property, found by reading all before it again: few exchanges ask, and [`Self::read`] keeps only
    /// what every message needs.
    fn find(&self, wanted: &str) -> Result<Option<Value>, Malformed> {
        let mut reader = Reader::new(self.raw);
        let flags = reader.short()?;
        for (name, _, form) in LAYOUT.into_iter().filter(|(_, flag, _)| flags & flag != 0) {
            let found = name == wanted;
            let value = match form {
                Form::Short => Value::from(reader.shortstr()?),
                Form::Octet => Value::U8(reader.octet()?),
                Form::Timestamp => Value::Timestamp(reader.longlong()?),
                Form::Table if found => Value::Table(reader.table()?),
                Form::Table => {
                    reader.longstr()?;
                    continue;
                }
            };
            if found {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

/// What is malformed counts as absent; sessions refuse it before they look for a route.
impl Facts for Properties<'_> {
    fn headers(&self) -> Table {
        Properties::headers(self).unwrap_or_default()
    }

    fn property(&self, name: &str) -> Option<Value> {
        self.find(name).unwrap_or_default()
    }
}

/// How the history of a dead letter begins among its headers: length and name.
const DEATHS: &[u8] = b"\x07x-death";

/// What the model may ask of the properties of messages that came by this protocol.
#[derive(Debug)]
pub struct PropertyCodec;

impl Codec for PropertyCodec {
    fn private_queues(&self) -> &'static [&'static str] {
        &["amq."]
    }

    fn headers(&self, properties: &[u8]) -> Table {
        Properties::read(properties).and_then(|properties| properties.headers()).unwrap_or_default()
    }

    fn has_headers(&self, properties: &[u8]) -> bool {
        properties.first().is_some_and(|flags| u16::from(*flags) << 8 & flag::HEADERS != 0)
    }

    fn property(&self, properties: &[u8], name: &str) -> Option<Value> {
        Properties::read(properties).and_then(|properties| properties.find(name)).unwrap_or_default()
    }

    fn table(&self, properties: &[u8]) -> Table {
        let Ok(properties) = Properties::read(properties) else { return Table::default() };
        let found = LAYOUT.iter().filter_map(|(name, ..)| Some(((*name).into(), properties.find(name).ok()??)));
        Table(found.collect())
    }

    fn expiration(&self, properties: &[u8]) -> Option<String> {
        Properties::read(properties).ok()?.expiration.map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_protocols_properties_become_these() {
        let table = Table(vec![
            ("content_type".into(), "text/plain".into()),
            ("headers".into(), Value::Table(Table(vec![("a".into(), "1".into())]))),
            ("delivery_mode".into(), Value::U8(2)),
            ("priority".into(), "not a number".into()),
            ("expiration".into(), "100".into()),
        ]);
        let encoded = Properties::of_table(&table);
        let mut expected = table;
        expected.remove("priority");
        assert_eq!(PropertyCodec.table(&encoded), expected);
        assert!(Properties::read(&encoded).unwrap().is_persistent());
    }

    #[test]
    fn dead_letters_get_headers_and_lose_their_time() {
        let flags = flag::CONTENT_TYPE | flag::EXPIRATION | flag::MESSAGE_ID;
        let mut raw = flags.to_be_bytes().to_vec();
        ["text/plain", "100", "id"].iter().for_each(|text| put_shortstr(&mut raw, text));
        let annotations = Table(vec![("x-death".into(), Value::Array(Vec::new())), ("internal".into(), Value::Void)]);
        let delivered = Properties::read(&raw).unwrap().annotated(annotations).unwrap();
        let delivered = Properties::read(&delivered).unwrap();
        assert_eq!(delivered.expiration, None);
        assert_eq!(delivered.headers().unwrap(), Table(vec![("x-death".into(), Value::Array(Vec::new()))]));
        assert!(delivered.raw.ends_with(b"\x02id"));
        let again = delivered.annotated(Table(vec![("x-a".into(), Value::I64(1))])).unwrap();
        let names: Vec<_> =
            Properties::read(&again).unwrap().headers().unwrap().0.into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["x-a".into(), "x-death".into()]);
    }

    #[test]
    fn the_quick_way_to_deliver_a_dead_letter_is_the_same_as_the_other() {
        let death = Table(vec![
            ("count".into(), Value::I64(1)),
            ("time".into(), Value::Timestamp(9)),
            ("routing-keys".into(), Value::Array(vec!["k".into(), Value::Void, Value::Bool(true)])),
        ]);
        let annotations = Table(vec![
            ("internal".into(), Value::Array(Vec::new())),
            ("x-death".into(), Value::Array(vec![Value::Table(death)])),
            ("x-first-death-queue".into(), "q".into()),
        ]);
        let mut encoded = Vec::new();
        broker::record::put_table(&mut encoded, &annotations);
        let mut with_time = (flag::CONTENT_TYPE | flag::EXPIRATION | flag::MESSAGE_ID).to_be_bytes().to_vec();
        ["text/plain", "100", "id"].iter().for_each(|text| put_shortstr(&mut with_time, text));
        for raw in [vec![0, 0], with_time] {
            let slow = Properties::read(&raw).unwrap().annotated(annotations.clone()).unwrap();
            assert_eq!(Properties::quickly_annotated(&raw, &encoded), Some(slow));
        }
        assert_eq!(Properties::quickly_annotated(&sample(), &encoded), None);
        for len in 0..encoded.len() {
            assert_eq!(Properties::quickly_annotated(&[0, 0], &encoded[..len]), None, "cut at {len}");
        }
    }

    #[test]
    fn the_quick_way_to_deliver_from_a_stream_is_the_same_as_the_other() {
        for flags in [0, flag::CONTENT_TYPE | flag::MESSAGE_ID, flag::DELIVERY_MODE | flag::REPLY_TO] {
            let mut raw: Vec<u8> = flags.to_be_bytes().to_vec();
            if flags & flag::CONTENT_TYPE != 0 {
                put_shortstr(&mut raw, "text/plain");
            }
            if flags & flag::DELIVERY_MODE != 0 {
                raw.push(2);
            }
            if flags & (flag::MESSAGE_ID | flag::REPLY_TO) != 0 {
                put_shortstr(&mut raw, "m");
            }
            let annotations = Table(vec![("x-stream-offset".into(), Value::I64(7))]);
            let slow = Properties::read(&raw).unwrap().annotated(annotations).unwrap();
            assert_eq!(Properties::with_stream_offset(&raw, 7), Some(slow));
        }
        assert_eq!(Properties::with_stream_offset(&sample(), 7), None);
    }

    /// Properties with headers, delivery mode 2, reply-to and a message id behind them.
    fn sample() -> Vec<u8> {
        let flags = flag::HEADERS | flag::DELIVERY_MODE | flag::REPLY_TO | flag::MESSAGE_ID;
        let mut raw = flags.to_be_bytes().to_vec();
        let mut headers = Table::default();
        headers.push("BCC", Value::Array(vec![Value::from("b")]));
        headers.push("n", Value::I32(1));
        put_table(&mut raw, &headers);
        raw.push(2);
        put_shortstr(&mut raw, "reply");
        put_shortstr(&mut raw, "id");
        raw
    }

    #[test]
    fn one_pass_finds_what_matters() {
        let raw = sample();
        let properties = Properties::read(&raw).unwrap();
        assert!(properties.is_persistent());
        assert_eq!((properties.reply_to, properties.expiration), (Some("reply"), None));
        let headers = properties.headers().unwrap();
        assert_eq!(Properties::further_keys(&headers, "BCC"), Ok(vec!["b".into()]));
        assert_eq!(Properties::further_keys(&headers, "n"), Err("signedint"));
        for len in 0..raw.len() {
            assert!(Properties::read(&raw[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn every_property_can_be_asked_for() {
        let mut raw = u16::MAX.wrapping_shl(2).to_be_bytes().to_vec();
        for (name, _, form) in LAYOUT {
            match form {
                Form::Short => put_shortstr(&mut raw, name),
                Form::Octet => raw.push(7),
                Form::Timestamp => raw.extend_from_slice(&9u64.to_be_bytes()),
                Form::Table => put_table(&mut raw, &Table(vec![("h".into(), Value::I8(1))])),
            }
        }
        let properties = Properties::read(&raw).unwrap();
        for (name, _, form) in LAYOUT {
            let expected = match form {
                Form::Short => Value::from(name),
                Form::Octet => Value::U8(7),
                Form::Timestamp => Value::Timestamp(9),
                Form::Table => Value::Table(Facts::headers(&properties)),
            };
            assert_eq!(properties.property(name), Some(expected));
        }
        assert_eq!(properties.property("nonsense"), None);
        assert_eq!(Properties::read(&sample()).unwrap().property("type"), None);
    }

    #[test]
    fn changes_leave_the_rest_alone() {
        let raw = sample();
        let properties = Properties::read(&raw).unwrap();
        let mut headers = properties.headers().unwrap();
        headers.remove("BCC");
        let without = properties.with_headers(&headers);
        let without = Properties::read(&without).unwrap();
        assert_eq!(without.headers(), Ok(headers));
        assert_eq!(without.reply_to, Some("reply"));
        let redirected = without.with_reply_to("elsewhere");
        let redirected = Properties::read(&redirected).unwrap();
        assert_eq!((redirected.reply_to, redirected.delivery_mode), (Some("elsewhere"), Some(2)));
    }
}
