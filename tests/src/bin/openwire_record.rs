//! Records what a client of OpenWire and a broker say to each other: `openwire_record BROKER_HOST:PORT FILE`. It prints the
//! port that the client is to use, and ends with its standard input.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, ToSocketAddrs};
use std::thread;

use roadstead_tests::openwire::record::record;

fn main() {
    let [broker, file] = [1, 2].map(|at| std::env::args().nth(at).expect("a broker and a file"));
    let broker = broker.to_socket_addrs().ok().and_then(|mut found| found.next()).expect("the broker's host and port");
    let mut out = File::create(file).expect("the file can be written");
    writeln!(out, "# What a client and ActiveMQ 5.17.2 said. Written by `openwire_record`.")
        .expect("the file can be written");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("{}", listener.local_addr().expect("a bound listener has an address").port());
    thread::spawn(move || record(&listener, broker, out));
    let _ = io::stdin().read_to_end(&mut Vec::new());
}
