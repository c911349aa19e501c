//! A log with a segment of arbitrary bytes behind a valid header: it opens, or the damage is named; nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::{
    Entry, Keys, check,
    format::{BLOCK_HEADER, SegmentHeader, SegmentId, content_check, put_entry},
};

const ID: SegmentId = SegmentId { first: 1, number: 1, generation: 0, epoch: 1 };

const SALT: u64 = 7;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    let folder = tempfile::tempdir().expect("a folder for the log");
    std::fs::create_dir(folder.path().join("log")).expect("the folder is new");
    let header = SegmentHeader { first_sequence: 1, end_sequence: 1, pruned_at: 0, salt: SALT, wrapped_key: None };
    let mut bytes = ID.header(&header).to_vec();
    let mut block = vec![0; BLOCK_HEADER];
    let entry = Entry::Hold { holders: &[1], parts: [b"whole", b""] };
    put_entry(&mut block, &entry, 1, content_check(&entry), 0);
    ID.seal_block(SALT, &mut block, 1, 1, 1);
    bytes.extend_from_slice(&block);
    if kind & 1 == 0 {
        bytes.extend_from_slice(data);
    } else {
        // A block with a good checksum around arbitrary entries.
        let mut block = vec![0; BLOCK_HEADER];
        block.extend_from_slice(data);
        ID.seal_block(SALT, &mut block, 2, 2, u32::from(kind));
        bytes.extend_from_slice(&block);
    }
    std::fs::write(folder.path().join(ID.file_name()), bytes).expect("the folder can be written");
    let report = check(folder.path(), &Keys::default(), &mut |_, _| {}).expect("a damaged log is a report, not an error");
    assert!(!report.findings.is_empty() || report.bodies >= 1 || kind & 1 == 1);
});
