//! The load generator's STOMP and OpenWire, against the broker.

use roadstead_tests::server::{Server, roadstead};
use serde_json::Value;

/// What `roadstead bench` wrote with these options.
fn figures(server: &Server, protocol: &str, options: &str) -> Value {
    let uri = match protocol {
        "openwire" => format!("tcp://127.0.0.1:{}", server.port_of("openwire")),
        _ => format!("stomp://127.0.0.1:{}", server.port_of("stomp")),
    };
    let file = server.directory().join("figures.json");
    let arguments = format!("bench --uri {uri} --timeout 30 --json {} {options}", file.display());
    let said = roadstead(arguments.split_whitespace());
    assert!(said.status.success(), "{protocol} {options}: {}{}", said.out, said.err);
    serde_json::from_slice(&std::fs::read(&file).expect("the figures")).expect("JSON")
}

#[test]
fn loads_of_openwire_and_stomp_arrive_whole() {
    let server = Server::start();
    for protocol in ["openwire", "stomp"] {
        for (options, copies) in [
            ("", 1),
            ("--persistent --confirms 1 --publishers 3", 1),
            ("--persistent --transacted 64", 1),
            ("--destination topic --consumers 3", 3),
            ("--one-in-flight --persistent --confirms 1 --ack", 1),
            ("--ack --ack-multiple 7 --prefetch 20 --queues 2 --publishers 2 --consumers 2", 1),
        ] {
            let figures = figures(&server, protocol, &format!("--messages 300 {options}"));
            let totals = &figures["loads"][0]["columns"][0]["rounds"][0]["totals"];
            assert_eq!((&totals["published"], &totals["lost"]), (&300.into(), &0.into()), "{protocol} {options}");
            assert_eq!(totals["consumed"], 300 * copies, "{protocol} {options}");
        }
        // What is left, and what a consumer that selects is told of.
        let figures = figures(&server, protocol, "--suite selective --messages 1000");
        let parts = figures["features"][0]["parts"].as_array().expect("its parts");
        let counts: Vec<_> = parts.iter().map(|part| part["count"].as_u64()).collect();
        assert_eq!(counts, [1000, 10, 10, 1000].map(Some), "{protocol}");
    }
}
