//! MQTT packets, properties and topics from arbitrary bytes. Properties that read must write back to the same, and the tree
//! of subscriptions must agree with the comparison of one filter.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mqtt::{
    message::Stored,
    packet::{Connect, Options, Packet, Version},
    properties::{Allowed, Properties, put},
    subscriptions::{Subscription, Subscriptions},
    topic,
    wire::{self, Reader},
};

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(frame)) = wire::frame(data, 1 << 20) {
        assert!(frame.len <= data.len() && frame.body.len() < frame.len);
        for version in [Version::V31, Version::V311, Version::V5] {
            match Packet::read(&frame, version) {
                Ok(Packet::Publish(publish)) => assert!(publish.topic.is_empty() || topic::is_name(publish.topic)),
                Ok(Packet::Subscribe(subscribe)) => {
                    for filter in &subscribe.filters {
                        assert_eq!(Options::of_byte(filter.options.byte(), version), Ok(filter.options));
                    }
                    check_filters(subscribe.filters.iter().map(|filter| filter.filter));
                }
                _ => {}
            }
        }
        let _ = Connect::read(&frame);
    }
    for allowed in [Allowed::CONNECT, Allowed::WILL, Allowed::PUBLISH, Allowed::SUBSCRIBE, Allowed::AUTH] {
        if let Ok(properties) = Properties::read(&mut Reader::new(data), allowed) {
            let mut written = Vec::new();
            properties.iter().for_each(|(id, value)| put(&mut written, id, value));
            assert_eq!(written, properties.raw);
        }
    }
    if let Some(stored) = Stored::read(data) {
        assert_eq!(Stored::read(&stored.bytes()), Some(stored));
    }
});

/// Takes each filter for a topic, too, if it could be one.
fn check_filters<'a>(filters: impl Iterator<Item = &'a str> + Clone) {
    let mut all = Subscriptions::default();
    let valid = filters.clone().filter(|filter| topic::is_filter(filter));
    for (id, filter) in (1..).zip(valid) {
        all.insert(filter, Subscription { options: Options::default(), id });
    }
    for name in filters.filter(|name| topic::is_name(name)) {
        let mut found = all.interest(name, false).map(|interest| interest.ids).unwrap_or_default();
        let matching = all.iter().filter(|(filter, _)| topic::matches(filter, name));
        let mut expected: Vec<u32> = matching.map(|(_, one)| one.id).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{name}");
    }
}
