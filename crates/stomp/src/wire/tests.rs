use proptest::prelude::*;

use super::*;

fn decoder(version: Version) -> Decoder {
    Decoder { version, limits: Limits::after_login(1000, 256 * 1024), ..Decoder::new() }
}

fn one<'a>(input: &'a [u8], version: Version) -> Result<Option<(Frame<'a>, usize)>, Malformed> {
    decoder(version).decode(input)
}

fn headers<'a>(frame: &'a Frame<'_>) -> Vec<(&'a str, &'a str)> {
    frame.headers.iter().map(|(name, value)| (&**name, &**value)).collect()
}

#[test]
fn frames_are_found_and_read() {
    let input = b"SEND\r\na:1\na:2\ncontent-length:3\n\nx\0y\0\nNEXT";
    let (frame, len) = one(input, Version::V12).unwrap().unwrap();
    assert_eq!((frame.command, frame.body, len), ("SEND", &b"x\0y"[..], input.len() - 5));
    assert_eq!(headers(&frame), [("a", "1"), ("a", "2"), ("content-length", "3")]);
    assert_eq!((frame.header("a"), frame.number("a"), frame.flag("a")), (Some("1"), Some(1), None));
    let (frame, _) = one(b"SEND\n\nabc\0", Version::V12).unwrap().unwrap();
    assert_eq!(frame.body, b"abc");
}

#[test]
fn each_version_has_its_escapes() {
    let read = |text: &str, version| {
        let input = format!("SEND\n{text}\n\n\0");
        one(input.as_bytes(), version).map(|found| headers(&found.unwrap().0)[0].1.to_owned())
    };
    assert_eq!(read(r"a:b\nc\\d\ce", Version::V10).unwrap(), r"b\nc\\d\ce");
    assert_eq!(read(r"a:b\nc\\d\ce:f", Version::V11).unwrap(), "b\nc\\d:e:f");
    assert!(read(r"a:\r", Version::V11).is_err() && read(r"a:\t", Version::V12).is_err());
    assert_eq!(read(r"a:\r", Version::V12).unwrap(), "\r");
    assert!(read(r"a:x\", Version::V12).is_err());
    let (frame, _) = one(b"CONNECT\npasscode:a\\n\n\n\0", Version::V12).unwrap().unwrap();
    assert_eq!(frame.header("passcode"), Some("a\\n"));
}

#[test]
fn what_is_too_large_is_refused_before_it_has_come() {
    let text = |input: Vec<u8>| one(&input, Version::V12).unwrap_err().0;
    assert_eq!(text(vec![b'A'; 33]), "the command is too long");
    assert_eq!(text([b"SEND\n".to_vec(), vec![b'a'; 70_000]].concat()), "a header is too long");
    assert_eq!(text([b"SEND\n".to_vec(), b"a:b\n".repeat(101)].concat()), "there are too many headers");
    let line = [vec![b'a'; 60_000], b":\n".to_vec()].concat();
    assert_eq!(text([b"SEND\n".to_vec(), line.repeat(5)].concat()), "the headers are too long");
    assert_eq!(text(b"SEND\ncontent-length:1001\n".to_vec()), "the body is too large");
    assert_eq!(text(b"SEND\ncontent-length:99999999999999999999999\n".to_vec()), "the body is too large");
    assert_eq!(text(b"SEND\ncontent-length:-1\n".to_vec()), "content-length is not a number");
    assert_eq!(text([b"SEND\n\n".to_vec(), vec![b'a'; 1001]].concat()), "the body is too large");
    assert!(text(b"SEND\ncontent-length:1\n\nab\0".to_vec()).starts_with("there is no NUL"));
    assert_eq!(text(b"SEND\na:b\n\0".to_vec()), "the frame ends within its headers");
    assert_eq!(text(b"SEND\na\n\n\0".to_vec()), "a header has no colon");
    assert_eq!(text(b"SEND\n:a\n\n\0".to_vec()), "a header has no name");
    assert_eq!(text(b"SEND\na:\xff\n\n\0".to_vec()), "a header is not UTF-8");
}

#[test]
fn what_cannot_be_told_in_a_version_is_left_out() {
    let told = |name, value, version| {
        let mut out = Vec::new();
        put_header(&mut out, name, value, version);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(told("a", "x\ny:z", Version::V12), "a:x\\ny\\cz\n");
    assert_eq!(told("a", "x:y", Version::V10), "a:x:y\n");
    assert_eq!(told("a", "x\nb:y", Version::V10), "");
    assert_eq!(told("a:b", "x", Version::V10), "");
    assert_eq!(told("a", "x\r", Version::V11), "");
    assert_eq!(told("a", "x\0", Version::V12), "");
}

proptest! {
    #[test]
    fn frames_come_back_in_whatever_pieces(
        headers in proptest::collection::vec(("[ -~\n\r]{1,9}", "[ -~\n\r]{0,9}"), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..40),
        piece in 1_usize..20,
    ) {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let bytes = frame("MESSAGE", &headers, &body, Version::V12);
        let mut decoder = decoder(Version::V12);
        let (mut end, mut found) = (0, None);
        while found.is_none() && end < bytes.len() {
            end = (end + piece).min(bytes.len());
            found = decoder.decode(&bytes[..end]).unwrap();
        }
        let (frame, len) = found.unwrap();
        prop_assert_eq!(len, bytes.len() - 1);
        prop_assert_eq!(frame.body, &body[..]);
        prop_assert_eq!(&tests::headers(&frame)[..headers.len()], &headers[..]);
    }

    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b':'), Just(0)], 0..200)) {
        for version in Version::ALL {
            let _ = one(&bytes, version);
        }
    }
}
