//! HTTP connections: the management API, the console and metrics.

use std::{pin::pin, sync::Arc, time::Duration};

use admin::Remote;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::{
    listener::{Arrival, Protocol},
    serve::Server,
};

/// How long a client may take to say what it wants, also between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// Bytes of a request's head.
const HEAD_BYTES: usize = 64 * 1024;

/// Answers one connection's requests until it ends, or the broker does.
pub async fn serve<S>(stream: S, arrival: Arrival, server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Arrival { protocol, peer, address, connection: _connection, before_login: _before_login, .. } = arrival;
    let router = match protocol {
        Protocol::Metrics => server.metrics.clone(),
        _ => server.management.clone(),
    };
    let (remote, clock, broker) = (Remote(peer.address), server.clock, Arc::clone(&server.broker));
    let service = service_fn(move |mut request: Request<Incoming>| {
        broker.set_time(clock.now());
        request.extensions_mut().insert(remote);
        if let Some(uri) = admin::trim(request.uri()) {
            *request.uri_mut() = uri;
        }
        router.clone().call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_BYTES);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = server.shutdown.begins() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, %error, "HTTP connection");
    }
}
