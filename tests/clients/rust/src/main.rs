//! rumqttc against a broker: its API of MQTT 3.1.1, which it calls v4, and its API of MQTT 5. The contract with who starts
//! it is in `tests/clients/README.md`.

mod checks;
mod checks_v5;
mod client;
mod session;
mod suite;

use std::process::ExitCode;

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    suite::run(checks::all(), &names)
}
