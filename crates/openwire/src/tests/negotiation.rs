//! What two offers become.

use crate::{
    Malformed, Offer, WireFormat,
    connection::WireFormatInfo,
    primitive::{Value, put_map},
};

fn info(map: &[(&str, Value<'_>)]) -> WireFormatInfo<'static> {
    let map: Vec<_> = map.iter().map(|(key, value)| ((*key).into(), value.clone())).collect();
    let mut bytes = Vec::new();
    put_map(&mut bytes, &map).unwrap();
    WireFormatInfo { magic: *b"ActiveMQ", version: 12, marshalled_properties: Some(bytes.into()) }
}

fn problem(map: &[(&str, Value<'_>)]) -> Option<&'static str> {
    Offer::of(&info(map)).err().map(|Malformed { problem }| problem)
}

#[test]
fn an_offer_comes_back() {
    let offer =
        Offer { host: Some("h".into()), provider_name: Some("Roadstead".into()), version: 9, ..Offer::default() };
    assert_eq!(Offer::of(&offer.info()), Ok(offer));
}

#[test]
fn both_want_it_or_neither_has_it() {
    let plain = Offer::of(&WireFormatInfo { version: 3, magic: *b"ActiveMQ", marshalled_properties: None }).unwrap();
    assert_eq!(
        Offer::default().negotiate(&plain).format(),
        WireFormat { version: 3, stack_traces: false, ..WireFormat::INITIAL }
    );
    let all = Offer { size_prefix_disabled: true, cache_size: 100, max_frame_size: 1000, ..Offer::default() };
    let both = all.negotiate(&Offer { version: 99, size_prefix_disabled: true, cache_size: 50, ..Offer::default() });
    let format = WireFormat {
        version: 12,
        tight: true,
        cache_size: 50,
        size_prefix: false,
        stack_traces: true,
        frame_max: 1000,
    };
    assert_eq!(both.format(), format);
    // A size of 0 stands for the most that indexes can tell, on both sides.
    let unsaid = all.negotiate(&Offer { cache_size: 0, ..Offer::default() });
    assert_eq!(unsaid.format().cache_size, 16_383);
    assert_eq!(all.negotiate(&Offer { max_frame_size: 0, ..Offer::default() }).format().frame_max, 1000);
    let idle = all.negotiate(&Offer { max_inactivity_duration: 0, ..Offer::default() });
    assert_eq!((idle.max_inactivity_duration, idle.max_inactivity_duration_initial_delay), (0, 10_000));
}

#[test]
fn unknown_properties_are_passed_over_and_many_refused() {
    let offer =
        Offer::of(&info(&[("New", Value::Null), ("CacheEnabled", Value::Int(1)), ("CacheSize", Value::Int(7))]));
    assert_eq!(offer.map(|offer| (offer.cache_enabled, offer.cache_size)), Ok((false, 7)));
    let long = "x".repeat(513);
    assert!(problem(&[("Host", Value::Text(long.as_str().into()))]).is_some());
    assert!(problem(&[(&long, Value::Null)]).is_some());
    assert!(problem(&[("x", Value::Map(vec![]))]).is_some());
    assert!(problem(&[("x", Value::List(vec![]))]).is_some());
    assert!(problem(&vec![("x", Value::Null); 64]).is_none());
    assert!(problem(&vec![("x", Value::Null); 65]).is_some());
    assert!(Offer::of(&WireFormatInfo { magic: *b"ActiveMX", version: 12, marshalled_properties: None }).is_err());
    assert!(Offer::of(&WireFormatInfo { magic: *b"ActiveMQ", version: 0, marshalled_properties: None }).is_err());
}
