//! Telling the service manager how things are (systemd's `sd_notify`): a datagram to the socket in `NOTIFY_SOCKET`.

use std::os::{
    linux::net::SocketAddrExt,
    unix::net::{SocketAddr, UnixDatagram},
};

/// Clients are welcome.
pub const READY: &str = "READY=1";

/// The broker ends in order.
pub const STOPPING: &str = "STOPPING=1";

/// Tells the service manager, if there is one. That it does not listen is no reason to do anything else.
pub fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = path.as_encoded_bytes();
    // An at sign stands for a name that is in no file system.
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager cannot be told: {state}");
    }
}
