//! Listeners: binding addresses, taking connections in, and the bounds that hold before anybody has logged in.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use amqp091::AmqpSession;
use anyhow::Context;
use broker::{Millis, Peer, Session};
use mqtt::MqttConnection;
use openwire::OpenWireSession;
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};
use stomp::StompConnection;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    auth::access::{Access, Cidr},
    clock::Clock,
    driver::Driver,
    http,
    serve::Server,
    tls, websocket,
};

/// Connections that the system keeps until they are taken in.
const BACKLOG: i32 = 1024;

/// Binds a port on an address.
///
/// # Errors
/// If it is taken, or the address is not this machine's.
pub fn bind(address: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(address, port);
    let attempt = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    attempt().with_context(|| format!("cannot listen on {address}"))
}

/// Counts something down when it goes.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts one more, unless there are `max` already.
    pub fn new(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let more = |n: usize| (n < max).then_some(n + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a listener's clients speak.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// AMQP 0-9-1.
    Amqp,
    /// MQTT.
    Mqtt,
    /// MQTT over WebSocket.
    MqttOverWebSocket,
    /// STOMP.
    Stomp,
    /// STOMP over WebSocket.
    StompOverWebSocket,
    /// OpenWire; or another, which shows in what the client says first.
    OpenWire,
    /// Over WebSocket, what the client names there.
    WebSocket,
    /// The management API and the console, over HTTP.
    Management,
    /// Metrics, over HTTP.
    Metrics,
}

impl Protocol {
    /// Its name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Mqtt => "mqtt",
            Self::MqttOverWebSocket => "mqtt-ws",
            Self::Stomp => "stomp",
            Self::StompOverWebSocket => "stomp-ws",
            Self::OpenWire => "openwire",
            Self::WebSocket => "ws",
            Self::Management => "management",
            Self::Metrics => "prometheus",
        }
    }

    /// Whether an address may connect.
    fn allows(self, access: &Access, address: IpAddr) -> bool {
        let list: &[Cidr] = match self {
            Self::Amqp => &access.amqp,
            Self::Mqtt | Self::MqttOverWebSocket => &access.mqtt,
            Self::Stomp | Self::StompOverWebSocket => &access.stomp,
            Self::OpenWire => &access.openwire,
            // Asked again once the client has named one of them.
            Self::WebSocket => {
                return Self::Mqtt.allows(access, address) || Self::Stomp.allows(access, address);
            }
            Self::Management => &access.management,
            Self::Metrics => &access.prometheus,
        };
        Access::allows(list, address)
    }

    /// Whether clients may speak another protocol as well.
    fn is_detected(self) -> bool {
        matches!(self, Self::OpenWire)
    }

    /// What clients may ask for with WebSocket; nothing if it goes without.
    fn over_web_socket(self) -> Option<(&'static [&'static str], &'static [&'static str])> {
        match self {
            Self::MqttOverWebSocket => Some((&["/ws", "/mqtt", "/"], &["mqtt", "mqttv3.1"])),
            Self::StompOverWebSocket => Some((&["/ws", "/stomp", "/"], STOMP_PROTOCOLS)),
            Self::WebSocket => {
                let protocols = &["mqtt", "mqttv3.1", "v12.stomp", "v11.stomp", "v10.stomp"];
                Some((&["/ws", "/mqtt", "/stomp", "/"], protocols))
            }
            _ => None,
        }
    }

    /// What is spoken with a sub-protocol. Who names none means MQTT, unless the listener is STOMP's.
    fn with(self, protocol: Option<&str>) -> Self {
        match (self, protocol) {
            (Self::WebSocket, Some(name)) if STOMP_PROTOCOLS.contains(&name) => Self::StompOverWebSocket,
            (Self::WebSocket, _) => Self::MqttOverWebSocket,
            (known, _) => known,
        }
    }
}

/// The sub-protocols of STOMP over WebSocket, the best first.
const STOMP_PROTOCOLS: &[&str] = &["v12.stomp", "v11.stomp", "v10.stomp"];

/// A session for a client that has just come; nothing if it speaks HTTP, which has none.
fn session(protocol: Protocol, server: &Arc<Server>, peer: &Peer) -> Option<Box<dyn Session>> {
    let now = server.clock.now();
    Some(match protocol {
        Protocol::Amqp => {
            Box::new(AmqpSession::new(Arc::clone(&server.broker), Arc::clone(&server.amqp), peer.clone(), now))
        }
        Protocol::Stomp | Protocol::StompOverWebSocket => {
            Box::new(StompConnection::new(&server.broker, &server.stomp, peer.clone(), now))
        }
        Protocol::OpenWire => {
            let (shared, settings) = (&server.openwire_shared, &server.openwire);
            Box::new(OpenWireSession::new(&server.broker, shared, settings, peer.clone(), now))
        }
        Protocol::Mqtt | Protocol::MqttOverWebSocket | Protocol::WebSocket => {
            Box::new(MqttConnection::new(&server.broker, &server.sessions, &server.mqtt, peer.clone(), now))
        }
        Protocol::Management | Protocol::Metrics => return None,
    })
}

/// Takes connections in until the server shuts down.
pub async fn accept(listener: TcpListener, protocol: Protocol, server: Arc<Server>, acceptor: Option<TlsAcceptor>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.shutdown.begins() => return,
        };
        match accepted {
            Ok((stream, address)) => take_in(stream, address, protocol, &server, acceptor.clone()),
            Err(error) => {
                // Out of file descriptors, mostly: others have to close before anybody can come in.
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn take_in(
    stream: TcpStream,
    address: SocketAddr,
    protocol: Protocol,
    server: &Arc<Server>,
    acceptor: Option<TlsAcceptor>,
) {
    if !protocol.allows(&server.config.access, address.ip()) {
        return server.turned_away.note(address, protocol);
    }
    let limits = &server.config.limits;
    let Some(connection) = Counted::new(&server.connections, limits.connections) else {
        tracing::warn!(peer = %address, "connection refused: limits.connections is reached");
        return;
    };
    let Some(before_login) = Counted::new(&server.before_login, limits.connections_before_login) else {
        tracing::warn!(peer = %address, "connection refused: limits.connections_before_login is reached");
        return;
    };
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().unwrap_or(address);
    let peer = Peer {
        address: address.ip().to_canonical(),
        port: address.port(),
        local: SocketAddr::new(local.ip().to_canonical(), local.port()),
        encrypted: false,
        certificate_name: None,
    };
    let arrival = Arrival { address, protocol, peer, begun: Vec::new(), connection, before_login };
    // What a handshake needs is no longer needed afterwards, so that it has a task of its own.
    let server = Arc::clone(server);
    match (acceptor, protocol.over_web_socket()) {
        (None, Some(_)) => drop(tokio::spawn(upgrade(stream, arrival, server))),
        (None, None) if protocol.is_detected() => drop(tokio::spawn(detect(stream, arrival, server))),
        (None, None) => drive(stream, arrival, &server),
        (Some(acceptor), _) => drop(tokio::spawn(encrypt(stream, acceptor, arrival, server))),
    }
}

/// Says that connections were turned away, once a second at most.
#[derive(Debug)]
pub struct TurnedAway {
    clock: Clock,
    /// When it was said last, and of how many it was not said since.
    last: Mutex<(Millis, u64)>,
}

impl TurnedAway {
    /// Nobody was.
    pub fn new(clock: Clock) -> Self {
        Self { clock, last: Mutex::new((Millis(0), 0)) }
    }

    fn note(&self, peer: SocketAddr, protocol: Protocol) {
        let now = self.clock.now();
        let mut last = self.last.lock();
        if last.0.plus(1000) > now {
            last.1 += 1;
            return;
        }
        let (_, unsaid) = std::mem::replace(&mut *last, (now, 0));
        drop(last);
        tracing::warn!(%peer, protocol = protocol.name(), unsaid, "connection refused: its address is not allowed");
    }
}

/// A connection that has just come.
pub struct Arrival {
    /// Where from.
    pub address: SocketAddr,
    /// What the client speaks.
    pub protocol: Protocol,
    /// What is known of the client.
    pub peer: Peer,
    /// What the client has said already.
    pub begun: Vec<u8>,
    /// Held as long as the connection lasts.
    pub connection: Counted,
    /// Held until the client has logged in.
    pub before_login: Counted,
}

/// Has a connection driven to its end.
fn drive<S>(stream: S, arrival: Arrival, server: &Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match session(arrival.protocol, server, &arrival.peer) {
        Some(session) => drop(tokio::spawn(Driver::new(stream, session, arrival, server))),
        None => drop(tokio::spawn(http::serve(stream, arrival, Arc::clone(server)))),
    }
}

/// A connection whose bytes do not lie bare on the wire. One in a box costs the others, which are more, no memory.
trait Wrapped: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wrapped for S {}

type Wrapping = Box<dyn Wrapped>;

/// Does the handshake of TLS.
async fn encrypt(stream: TcpStream, acceptor: TlsAcceptor, mut arrival: Arrival, server: Arc<Server>) {
    let within = Duration::from_millis(server.config.limits.handshake_ms);
    let address = arrival.address;
    match tokio::time::timeout(within, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            arrival.peer.certificate_name =
                certificates.and_then(|list| tls::user_name(list.first()?, &server.config.tls));
            arrival.peer.encrypted = true;
            let stream: Wrapping = Box::new(stream);
            match arrival.protocol.over_web_socket() {
                Some(_) => upgrade(stream, arrival, server).await,
                None if arrival.protocol.is_detected() => detect(stream, arrival, server).await,
                None => drive(stream, arrival, &server),
            }
        }
        Ok(Err(error)) => tracing::warn!(peer = %address, %error, "TLS handshake failed"),
        Err(_) => tracing::warn!(peer = %address, "TLS handshake took too long"),
    }
}

/// Finds out what the client speaks by the first byte that it sends: clients of all these protocols speak first.
async fn detect<S>(mut stream: S, mut arrival: Arrival, server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let within = Duration::from_millis(server.config.limits.handshake_ms);
    let Ok(Ok(first)) = tokio::time::timeout(within, stream.read_u8()).await else { return };
    arrival.protocol = match first {
        b'A' => Protocol::Amqp,
        // A CONNECT packet.
        0x10 => Protocol::Mqtt,
        b'C' | b'S' | b'\r' | b'\n' => Protocol::Stomp,
        _ => Protocol::OpenWire,
    };
    if !arrival.protocol.allows(&server.config.access, arrival.address.ip()) {
        return server.turned_away.note(arrival.address, arrival.protocol);
    }
    arrival.begun.push(first);
    drive(stream, arrival, &server);
}

/// Does the handshake of WebSocket.
async fn upgrade<S>(stream: S, mut arrival: Arrival, server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let origins = server.config.websocket.origins.clone();
    let (paths, protocols) = arrival.protocol.over_web_socket().unwrap_or_default();
    // STOMP is text, and what carries it may be either (MQTT is binary: MQTT 5, section 6).
    let takes_text = !matches!(arrival.protocol, Protocol::MqttOverWebSocket);
    let terms = websocket::Terms { paths, protocols, origins, takes_text };
    let within = Duration::from_millis(server.config.limits.handshake_ms);
    let address = arrival.address;
    match tokio::time::timeout(within, websocket::accept(stream, &terms)).await {
        Ok(Ok((stream, named))) => {
            arrival.protocol = arrival.protocol.with(named);
            if !arrival.protocol.allows(&server.config.access, address.ip()) {
                return server.turned_away.note(address, arrival.protocol);
            }
            drive::<Wrapping>(Box::new(stream), arrival, &server);
        }
        Ok(Err(error)) => tracing::warn!(peer = %address, %error, "no WebSocket connection"),
        Err(_) => tracing::warn!(peer = %address, "WebSocket handshake took too long"),
    }
}
