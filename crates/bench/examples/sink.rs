//! A fake broker that costs almost nothing, to learn what the tool itself costs.
//!
//! It answers every method, discards what is published (and confirms it, if asked), and sends canned deliveries as fast
//! as the consumer takes them. Run it with a port, and `bench` with `--consumers 0` or `--publishers 0` against it.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};

/// A body of 16 bytes without a time.
const BODY: [u8; 16] = [0; 16];
/// Where the delivery tag lies: behind frame prefix, method id and a consumer tag of one letter.
const TAG_AT: usize = 7 + 4 + 2;
/// Deliveries per write.
const DELIVERIES: usize = 1500;

fn main() -> Result<()> {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(25999);
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("discarding on {}", listener.local_addr()?);
    serve(&listener)
}

/// Serves every connection on a thread of its own.
pub(crate) fn serve(listener: &TcpListener) -> Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            Peer {
                stream,
                buffer: vec![0; 1 << 18],
                end: 0,
                published: 0,
                is_confirming: false,
                is_delivering: false,
                delivered: 0,
                deliveries: deliveries(),
            }
            .run()
        });
    }
    Ok(())
}

struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    end: usize,
    published: u64,
    is_confirming: bool,
    is_delivering: bool,
    delivered: u64,
    deliveries: Vec<u8>,
}

impl Peer {
    fn run(mut self) -> Result<()> {
        self.stream.set_nodelay(true)?;
        let mut header = [0; 8];
        self.stream.read_exact(&mut header)?;
        let start = [&[0, 9, 0, 0, 0, 0][..], &text(b"PLAIN"), &text(b"en_US")].concat();
        self.reply(0, (10, 10), &start)?;
        loop {
            if self.is_delivering {
                self.deliver()?;
            }
            self.stream.set_nonblocking(self.is_delivering)?;
            let read = self.stream.read(&mut self.buffer[self.end..]);
            self.stream.set_nonblocking(false)?;
            match read {
                Ok(0) => return Ok(()),
                Ok(length) => self.end += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            self.take_frames()?;
        }
    }

    fn take_frames(&mut self) -> Result<()> {
        let (mut at, before) = (0, self.published);
        while let Some(prefix) = self.buffer[at..self.end].first_chunk::<11>() {
            let &[kind, _, _, a, b, c, d, class_high, class, method_high, method] = prefix;
            let length = u32::from_be_bytes([a, b, c, d]) as usize + 8;
            if self.end - at < length {
                break;
            }
            at += length;
            let id = (u16::from_be_bytes([class_high, class]), u16::from_be_bytes([method_high, method]));
            match (kind, id) {
                (1, (60, 40)) => self.published += 1,
                (1, id) => self.answer(id)?,
                _ => {}
            }
        }
        self.buffer.copy_within(at..self.end, 0);
        self.end -= at;
        if self.is_confirming && self.published > before {
            let ack = [&self.published.to_be_bytes()[..], &[1]].concat();
            self.reply(1, (60, 80), &ack)?;
        }
        Ok(())
    }

    fn answer(&mut self, id: (u16, u16)) -> Result<()> {
        match id {
            (10, 11) => self.reply(0, (10, 30), &[0, 0, 0, 2, 0, 0, 0, 0]),
            (10, 31) => Ok(()),
            (10, 40) => self.reply(0, (10, 41), &[0]),
            (10, 50) => {
                self.is_delivering = false;
                self.reply(0, (10, 51), &[])
            }
            (20, 10) => self.reply(1, (20, 11), &[0; 4]),
            (50, 10) => self.reply(1, (50, 11), &[0; 9]),
            (50, 40) => self.reply(1, (50, 41), &[0; 4]),
            (60, 20) => {
                self.is_delivering = true;
                self.reply(1, (60, 21), &[1, b'0'])
            }
            (60, 80) => Ok(()),
            (85, 10) => {
                self.is_confirming = true;
                self.reply(1, (85, 11), &[])
            }
            (class, method) => self.reply(1, (class, method + 1), &[]),
        }
    }

    /// Sends one write of deliveries with the next delivery tags.
    fn deliver(&mut self) -> Result<()> {
        let length = self.deliveries.len() / DELIVERIES;
        for one in self.deliveries.chunks_mut(length) {
            self.delivered += 1;
            one[TAG_AT..TAG_AT + 8].copy_from_slice(&self.delivered.to_be_bytes());
        }
        self.stream.write_all(&self.deliveries)
    }

    fn reply(&mut self, channel: u16, (class, method): (u16, u16), arguments: &[u8]) -> Result<()> {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), arguments].concat();
        let mut bytes = Vec::new();
        frame(&mut bytes, 1, channel, &payload);
        self.stream.write_all(&bytes)
    }
}

fn deliveries() -> Vec<u8> {
    let mut one = Vec::new();
    let route = [&[1, b'0'][..], &[0; 8], &[0, 0, 13], b"bench-12345-0"].concat();
    frame(&mut one, 1, 1, &[&[0, 60, 0, 60], &route[..]].concat());
    frame(&mut one, 2, 1, &[&[0, 60, 0, 0][..], &(BODY.len() as u64).to_be_bytes(), &[0, 0]].concat());
    frame(&mut one, 3, 1, &BODY);
    one.repeat(DELIVERIES)
}

fn frame(bytes: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(&channel.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.push(0xCE);
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}
