//! The first frame of both sides, WireFormatInfo: what each offers, and what both can have.

use crate::{
    connection::WireFormatInfo,
    error::Malformed,
    lent::Text,
    primitive::{self, Value, put_map},
};

/// The highest version that there is. Every ActiveMQ since 5.14 has it.
pub const VERSION_MAX: i32 = 12;

/// Properties that a peer may offer. Before a login everything is kept small; ActiveMQ has the same limits
/// since CVE-2026-50734.
pub const PROPERTIES_MAX: usize = 64;

/// Longest key or value of a property, in bytes.
pub const PROPERTY_LEN_MAX: usize = 512;

/// The most entries that an index of two signed bytes can number, which a size of 0 stands for.
const CACHE_SIZE_MAX: i32 = i16::MAX as i32 / 2;

/// How frames look on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireFormat {
    /// The version, 1 to [`VERSION_MAX`].
    pub version: i32,
    /// Whether flags and small numbers are packed.
    pub tight: bool,
    /// Entries that each side remembers of the other; 0 for no cache.
    pub cache_size: usize,
    /// Whether each frame begins with its length.
    pub size_prefix: bool,
    /// Whether exceptions say where they come from.
    pub stack_traces: bool,
    /// Longest frame that both sides take, in bytes without the length before it.
    pub frame_max: usize,
}

impl WireFormat {
    /// As every connection begins.
    pub const INITIAL: Self = Self {
        version: 1,
        tight: false,
        cache_size: 0,
        size_prefix: true,
        stack_traces: true,
        frame_max: i32::MAX as usize,
    };
}

/// What one side offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The highest version that it knows.
    pub version: i32,
    /// Whether it can remember ids and destinations.
    pub cache_enabled: bool,
    /// How many.
    pub cache_size: i32,
    /// Whether it knows the tight encoding.
    pub tight_encoding_enabled: bool,
    /// Whether it can do without lengths before frames.
    pub size_prefix_disabled: bool,
    /// Whether it sends and takes stack traces.
    pub stack_trace_enabled: bool,
    /// Whether it sends at once what it has.
    pub tcp_no_delay_enabled: bool,
    /// After how long a silence it gives the peer up, in milliseconds; 0 or less for never.
    pub max_inactivity_duration: i64,
    /// The same for the beginning of a connection.
    pub max_inactivity_duration_initial_delay: i64,
    /// Longest frame that it takes, in bytes; 0 or less for any.
    pub max_frame_size: i64,
    /// The host that a client asked for.
    pub host: Option<String>,
    /// What it is.
    pub provider_name: Option<String>,
    /// Which version of that.
    pub provider_version: Option<String>,
    /// What it runs on.
    pub platform_details: Option<String>,
}

impl Default for Offer {
    /// What ActiveMQ's clients and brokers offer unless they are told otherwise.
    fn default() -> Self {
        Self {
            version: VERSION_MAX,
            cache_enabled: true,
            cache_size: 1024,
            tight_encoding_enabled: true,
            size_prefix_disabled: false,
            stack_trace_enabled: true,
            tcp_no_delay_enabled: true,
            max_inactivity_duration: 30_000,
            max_inactivity_duration_initial_delay: 10_000,
            max_frame_size: i64::MAX,
            host: None,
            provider_name: None,
            provider_version: None,
            platform_details: None,
        }
    }
}

/// A property of an offer, as the frame has it.
enum Property<'o> {
    Bool(&'o mut bool),
    Int(&'o mut i32),
    Long(&'o mut i64),
    Text(&'o mut Option<String>),
}

impl Offer {
    /// Reads an offer. Properties that are not known, or that are of another type than they should be, are passed over; what
    /// is not offered is off, 0 or none.
    ///
    /// # Errors
    /// If it is none, or is beyond [`PROPERTIES_MAX`] or [`PROPERTY_LEN_MAX`].
    pub fn of(info: &WireFormatInfo<'_>) -> Result<Self, Malformed> {
        if info.magic != WireFormatInfo::MAGIC {
            return Err(Malformed::new("the peer does not speak OpenWire"));
        }
        if info.version < 1 {
            return Err(Malformed::new("the peer has no version of OpenWire"));
        }
        let mut offer = Self { version: info.version, ..Self::nothing() };
        let Some(properties) = &info.marshalled_properties else { return Ok(offer) };
        let map = primitive::entries(properties)?;
        if map.len() > PROPERTIES_MAX {
            return Err(Malformed::new("the peer offers too many properties"));
        }
        for entry in map {
            let (key, value) = entry?;
            let len = match &value {
                Value::Text(text) => text.len(),
                Value::Bytes(bytes) => bytes.len(),
                Value::Map(_) | Value::List(_) => return Err(Malformed::new("the peer offers nested properties")),
                _ => 0,
            };
            if key.len().max(len) > PROPERTY_LEN_MAX {
                return Err(Malformed::new("the peer offers a property that is too long"));
            }
            offer.set(&key, &value);
        }
        Ok(offer)
    }

    fn nothing() -> Self {
        Self {
            version: 1,
            cache_enabled: false,
            cache_size: 0,
            tight_encoding_enabled: false,
            stack_trace_enabled: false,
            tcp_no_delay_enabled: false,
            max_inactivity_duration: 0,
            max_inactivity_duration_initial_delay: 0,
            max_frame_size: 0,
            ..Self::default()
        }
    }

    /// All properties, by the names that frames have for them.
    fn properties(&mut self) -> [(&'static str, Property<'_>); 13] {
        [
            ("CacheEnabled", Property::Bool(&mut self.cache_enabled)),
            ("CacheSize", Property::Int(&mut self.cache_size)),
            ("TightEncodingEnabled", Property::Bool(&mut self.tight_encoding_enabled)),
            ("SizePrefixDisabled", Property::Bool(&mut self.size_prefix_disabled)),
            ("StackTraceEnabled", Property::Bool(&mut self.stack_trace_enabled)),
            ("TcpNoDelayEnabled", Property::Bool(&mut self.tcp_no_delay_enabled)),
            ("MaxInactivityDuration", Property::Long(&mut self.max_inactivity_duration)),
            // The name is misspelt in every implementation.
            ("MaxInactivityDurationInitalDelay", Property::Long(&mut self.max_inactivity_duration_initial_delay)),
            ("MaxFrameSize", Property::Long(&mut self.max_frame_size)),
            ("Host", Property::Text(&mut self.host)),
            ("ProviderName", Property::Text(&mut self.provider_name)),
            ("ProviderVersion", Property::Text(&mut self.provider_version)),
            ("PlatformDetails", Property::Text(&mut self.platform_details)),
        ]
    }

    fn set(&mut self, key: &str, value: &Value<'_>) {
        let known = self.properties().into_iter().find(|(name, _)| *name == key);
        match (known, value) {
            (Some((_, Property::Bool(to))), Value::Bool(value)) => *to = *value,
            (Some((_, Property::Int(to))), Value::Int(value)) => *to = *value,
            (Some((_, Property::Long(to))), Value::Long(value)) => *to = *value,
            (Some((_, Property::Text(to))), Value::Text(value)) => *to = Some(value.to_string()),
            _ => {}
        }
    }

    /// As a frame.
    pub fn info(&self) -> WireFormatInfo<'static> {
        let mut offer = self.clone();
        let map: Vec<(Text<'_>, Value<'_>)> = offer
            .properties()
            .into_iter()
            .filter_map(|(name, property)| {
                let value = match property {
                    Property::Bool(value) => Value::Bool(*value),
                    Property::Int(value) => Value::Int(*value),
                    Property::Long(value) => Value::Long(*value),
                    Property::Text(value) => Value::Text(Text::from(value.take()?)),
                };
                Some((name.into(), value))
            })
            .collect();
        let mut bytes = Vec::new();
        // Values of an offer are a few words long, so that nothing can be beyond its length. If somebody makes one that is
        // longer than any peer would take, it is left out with the rest.
        let marshalled_properties = put_map(&mut bytes, &map).is_ok().then(|| bytes.into());
        WireFormatInfo { magic: WireFormatInfo::MAGIC, version: self.version, marshalled_properties }
    }

    /// What both sides can have: the lower version and the smaller sizes, and what both want. ActiveMQ finds the same by
    /// itself from the same two frames.
    pub fn negotiate(&self, peer: &Self) -> Self {
        let positive = |a: i64, b: i64| if a <= 0 || b <= 0 { a.max(b) } else { a.min(b) };
        Self {
            version: self.version.min(peer.version).min(VERSION_MAX),
            cache_enabled: self.cache_enabled && peer.cache_enabled,
            cache_size: match self.cache_size.min(peer.cache_size) {
                ..=0 => CACHE_SIZE_MAX,
                size => size.min(CACHE_SIZE_MAX),
            },
            tight_encoding_enabled: self.tight_encoding_enabled && peer.tight_encoding_enabled,
            size_prefix_disabled: self.size_prefix_disabled && peer.size_prefix_disabled,
            stack_trace_enabled: self.stack_trace_enabled && peer.stack_trace_enabled,
            tcp_no_delay_enabled: self.tcp_no_delay_enabled && peer.tcp_no_delay_enabled,
            max_inactivity_duration: self.max_inactivity_duration.min(peer.max_inactivity_duration),
            max_inactivity_duration_initial_delay: self
                .max_inactivity_duration_initial_delay
                .min(peer.max_inactivity_duration_initial_delay),
            max_frame_size: positive(self.max_frame_size, peer.max_frame_size),
            ..peer.clone()
        }
    }

    /// How frames look from then on, if this is what was negotiated.
    pub fn format(&self) -> WireFormat {
        let cache_size = if self.cache_enabled { usize::try_from(self.cache_size).unwrap_or_default() } else { 0 };
        let frame_max = WireFormat::INITIAL.frame_max;
        WireFormat {
            version: self.version,
            tight: self.tight_encoding_enabled,
            cache_size,
            size_prefix: !self.size_prefix_disabled,
            stack_traces: self.stack_trace_enabled,
            frame_max: match usize::try_from(self.max_frame_size) {
                Ok(size @ 1..) => size.min(frame_max),
                _ => frame_max,
            },
        }
    }
}
