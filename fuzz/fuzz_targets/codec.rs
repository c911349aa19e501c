//! Frames, methods, tables and properties from arbitrary bytes. What reads must write back to something that reads the
//! same.
#![no_main]

use amqp091::{
    method::Method,
    properties::Properties,
    wire::{self, Reader},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(Some(frame)) = wire::frame(data, 131_072)
        && let Ok(method) = Method::read(frame.payload)
    {
        let mut written = Vec::new();
        method.put(&mut written, frame.channel);
        let again = wire::frame(&written, usize::MAX / 2).expect("a written frame is a frame").expect("and a whole one");
        // Not-a-number differs from itself, so the forms are compared.
        let read = Method::read(again.payload).expect("a written method reads");
        assert_eq!(format!("{read:?}"), format!("{method:?}"));
    }
    if let Ok(properties) = Properties::read(data) {
        if let Ok(headers) = properties.headers() {
            let changed = properties.with_headers(&headers);
            assert!(Properties::read(&changed).is_ok());
        }
        let changed = properties.with_reply_to("elsewhere");
        let read = Properties::read(&changed).expect("changed properties read");
        assert_eq!(read.reply_to.is_some(), properties.reply_to.is_some());
    }
    let _ = Reader::new(data).table();
});
