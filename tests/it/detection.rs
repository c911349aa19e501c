//! ActiveMQ's port takes every protocol.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use roadstead_tests::{
    raw::{Address, Connection, PATIENCE},
    server::Server,
};

/// What comes back first, of so many bytes, for what a client says first.
fn answer(server: &Server, said: &[u8], len: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port_of("openwire"))).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    // In two pieces, of which the first tells.
    stream.write_all(&said[..1]).expect("it reads");
    stream.write_all(&said[1..]).expect("it reads");
    let mut answer = vec![0; len];
    stream.read_exact(&mut answer).expect("an answer");
    answer
}

#[test]
fn activemqs_port_takes_every_protocol() {
    let server = Server::start();
    let uri = format!("amqp://guest:guest@127.0.0.1:{}/%2F", server.port_of("openwire"));
    Connection::ready(&Address::parse(&uri)).call(1, "queue.declare", "queue=q");
    let connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a";
    assert_eq!(answer(&server, connect, 4), [0x20, 2, 0, 0]);
    let connect = b"CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\0";
    assert_eq!(answer(&server, connect, 10), b"CONNECTED\n");
    let information = b"\0\0\0\x0e\x01ActiveMQ\0\0\0\x0c\0";
    assert_eq!(answer(&server, information, 13)[4..], *b"\x01ActiveMQ");
}
