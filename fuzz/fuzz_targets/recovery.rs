//! A log with a segment of arbitrary bytes behind a valid header: it opens, or the damage is named; nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::{
    Entry, check,
    format::{BLOCK_HEADER, SegmentId, put_entry},
};

const ID: SegmentId = SegmentId { epoch: 1, number: 1 };

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    let folder = tempfile::tempdir().expect("a folder for the log");
    let log = folder.path().join("log");
    std::fs::create_dir(&log).expect("the folder is new");
    let mut bytes = ID.header(1).to_vec();
    let mut block = vec![0; BLOCK_HEADER];
    put_entry(&mut block, &Entry::Hold { holders: &[1], parts: [b"whole", b""] });
    ID.seal_block(&mut block, 1, 1);
    bytes.extend_from_slice(&block);
    if kind & 1 == 0 {
        bytes.extend_from_slice(data);
    } else {
        // A block with a good checksum around arbitrary entries.
        let mut block = vec![0; BLOCK_HEADER];
        block.extend_from_slice(data);
        ID.seal_block(&mut block, 2, u32::from(kind));
        bytes.extend_from_slice(&block);
    }
    std::fs::write(log.join(ID.file_name()), bytes).expect("the folder can be written");
    let report = check(folder.path()).expect("a damaged log is a report, not an error");
    assert!(report.damage.is_some() || report.bodies >= 1 || kind & 1 == 1);
});
