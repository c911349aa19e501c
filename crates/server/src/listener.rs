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
use broker::{Name, Peer, Session};
use mqtt::MqttConnection;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{driver, serve::Server, tls, websocket};

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
}

/// The sub-protocols of MQTT over WebSocket (MQTT 5, section 6), and the paths at which RabbitMQ and others have it.
const MQTT_PROTOCOLS: &[&str] = &["mqtt", "mqttv3.1"];
const MQTT_PATHS: &[&str] = &["/ws", "/mqtt", "/"];

/// A session for a client that has just come.
fn session(protocol: Protocol, server: &Arc<Server>, peer: &Peer) -> Box<dyn Session> {
    let now = server.clock.now();
    match protocol {
        Protocol::Amqp => {
            Box::new(AmqpSession::new(Arc::clone(&server.broker), Arc::clone(&server.amqp), peer.clone(), now))
        }
        Protocol::Mqtt | Protocol::MqttOverWebSocket => {
            Box::new(MqttConnection::new(&server.broker, &server.sessions, &server.mqtt, peer.clone(), now))
        }
    }
}

/// Takes connections in until the server shuts down.
pub async fn accept(listener: TcpListener, protocol: Protocol, server: Arc<Server>, acceptor: Option<TlsAcceptor>) {
    let mut shutdown = server.shutdown.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|down| *down) => return,
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
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let ip = address.ip().to_canonical();
        match acceptor {
            None => {
                let peer = Peer { address: ip, encrypted: false, certificate_name: None };
                drive(stream, address, protocol, peer, &server, before_login).await;
            }
            Some(acceptor) => {
                let within = Duration::from_millis(server.config.limits.handshake_ms);
                match tokio::time::timeout(within, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let certificates = stream.get_ref().1.peer_certificates();
                        let name: Option<Name> = certificates.and_then(|list| tls::common_name(list.first()?));
                        let peer = Peer { address: ip, encrypted: true, certificate_name: name };
                        drive(stream, address, protocol, peer, &server, before_login).await;
                    }
                    Ok(Err(error)) => tracing::warn!(peer = %address, %error, "TLS handshake failed"),
                    Err(_) => tracing::warn!(peer = %address, "TLS handshake took too long"),
                }
            }
        }
        drop(connection);
    });
}

/// Drives a connection to its end, whatever lies between its protocol and its bytes.
async fn drive<S>(
    stream: S,
    address: SocketAddr,
    protocol: Protocol,
    peer: Peer,
    server: &Arc<Server>,
    before_login: Counted,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Protocol::MqttOverWebSocket = protocol else {
        let session = session(protocol, server, &peer);
        return driver::run(stream, address, peer, session, server, before_login).await;
    };
    let origins = server.config.websocket.origins.clone();
    let terms = websocket::Terms { paths: MQTT_PATHS, protocols: MQTT_PROTOCOLS, origins };
    let within = Duration::from_millis(server.config.limits.handshake_ms);
    match tokio::time::timeout(within, websocket::accept(stream, &terms)).await {
        Ok(Ok(stream)) => {
            let session = session(protocol, server, &peer);
            driver::run(stream, address, peer, session, server, before_login).await;
        }
        Ok(Err(error)) => tracing::warn!(peer = %address, %error, "no WebSocket connection"),
        Err(_) => tracing::warn!(peer = %address, "WebSocket handshake took too long"),
    }
}
