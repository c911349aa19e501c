//! The driver of a connection, for every protocol: reads, lets the session work, writes.
//!
//! One task per connection and one loop. Input is read into a buffer that all connections of a thread share, so an idle
//! connection has none; what a session leaves of it is kept until more comes.

use std::{
    cell::RefCell,
    future::Future,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use broker::{
    Millis, Outlet, Reply, Request, SaslOutcome, Session, limits,
    outlet::Chunks,
    session::{HangUp, Intake},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinHandle,
    time::Sleep,
};

use crate::{
    auth::{LoginOutcome, Origin},
    listener::{Arrival, Counted, Protocol},
    scram,
    serve::Server,
    shutdown::Place,
};

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

/// Bytes of output above which nothing more is read: deliveries stop far below, so these are replies that the client
/// does not take.
const OUTPUT_BYTES_MAX: usize = 8 * limits::OUTPUT_BYTES_HIGH;

/// Chunks in one write.
const CHUNKS_PER_WRITE: usize = 64;

/// Rounds of the loop after which other connections get their turn.
const ROUNDS: usize = 16;

/// Milliseconds for which what a client still sends is read and dropped after the last word. Closing with unread input
/// would reset the connection, and the client might never see that word.
const LINGER_MS: u64 = 1000;

/// Milliseconds for which a publisher waits at most for consumers that lag. It may be their own connection, whose client
/// reads nothing as long as it cannot write.
const REST_MS: u64 = 5;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How a connection ended.
#[derive(Debug)]
enum Ended {
    /// Both sides said what they had to say.
    InOrder,
    /// The client is gone.
    ByPeer,
    /// The client takes nothing of what is written to it.
    NotTaking,
    Failed(io::Error),
}

/// Drives one connection.
pub struct Driver<S> {
    stream: S,
    session: Box<dyn Session>,
    outlet: Arc<dyn Outlet>,
    address: SocketAddr,
    protocol: Protocol,
    /// Where the broker knows whom to wake when it shuts down.
    place: Option<Place>,
    /// Whether the session knows that it does.
    is_told: bool,
    _connection: Counted,
    server: Arc<Server>,
    /// Input that the session has not used.
    left: Vec<u8>,
    /// Whether the session stopped in the middle of `left`, and not for want of more.
    left_is_ready: bool,
    chunks: Chunks,
    /// Since when a write has not gone forward.
    stuck_since: Option<Millis>,
    /// Whether the transport holds bytes that it was given to write.
    is_unflushed: bool,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer is set.
    is_timed: bool,
    rest_until: Option<Millis>,
    entering: Option<Box<Entering>>,
    /// Whether the last word has been written and input is dropped, until the timer fires.
    is_lingering: bool,
}

/// What is needed only while a client shows who it is, which most connections do but once.
#[derive(Default)]
struct Entering {
    login: Option<JoinHandle<LoginOutcome>>,
    /// A login of several steps.
    exchange: Option<Box<scram::Exchange>>,
    /// Given back once the client has logged in.
    _before_login: Option<Counted>,
}

/// Drives the connection to its end.
impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.place.is_none() {
            this.place = Some(this.server.shutdown.wake_then(cx.waker()));
        }
        if this.server.shutdown.has_begun() && !this.is_told {
            this.is_told = true;
            this.session.shut_down(this.server.clock.now());
        }
        let ended = ready!(this.drive(cx));
        let (who, peer) = (this.session.describe(), this.address);
        match ended {
            Ended::InOrder => tracing::info!(%peer, "closed: {who}"),
            Ended::ByPeer => tracing::info!(%peer, "closed by the client without goodbye: {who}"),
            Ended::NotTaking => tracing::warn!(%peer, "closed, the client reads nothing: {who}"),
            Ended::Failed(error) => tracing::info!(%peer, %error, "connection lost: {who}"),
        }
        Poll::Ready(())
    }
}

/// However a connection ends, in order, by a panic, or with the whole process: what its client held goes back.
impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.session.disconnected(self.server.clock.now());
        if let Some(place) = self.place {
            self.server.shutdown.forget(place);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// A connection that has just come.
    pub fn new(stream: S, session: Box<dyn Session>, arrival: Arrival, server: &Arc<Server>) -> Self {
        let Arrival { address, protocol, begun, connection, before_login, .. } = arrival;
        tracing::debug!(peer = %address, "connected");
        Self {
            stream,
            outlet: session.outlet(),
            session,
            address,
            protocol,
            place: None,
            is_told: false,
            _connection: connection,
            left: begun,
            left_is_ready: false,
            chunks: Chunks::default(),
            stuck_since: None,
            is_unflushed: false,
            timer: Box::pin(tokio::time::sleep_until(server.clock.instant(server.clock.now()))),
            is_timed: false,
            rest_until: None,
            entering: Some(Box::new(Entering { _before_login: Some(before_login), ..Entering::default() })),
            is_lingering: false,
            server: Arc::clone(server),
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..ROUNDS {
            let now = self.server.clock.now();
            let mut busy = self.poll_login(cx, now);
            self.session.poll(now, cx.waker());
            busy |= match self.poll_output(cx, now) {
                Ok(busy) => busy,
                Err(ended) => return Poll::Ready(ended),
            };
            if let Some(hang_up) = self.session.finished()
                && self.chunks.is_empty()
                && self.outlet.pending_bytes() == 0
            {
                return self.poll_linger(cx, now, hang_up).map(|()| Ended::InOrder);
            }
            busy |= match self.poll_input(cx, now) {
                Ok(busy) => busy,
                Err(ended) => return Poll::Ready(ended),
            };
            match self.poll_timer(cx, now) {
                Ok(fired) => busy |= fired,
                Err(ended) => return Poll::Ready(ended),
            }
            if !busy {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Has credentials checked where it does not hold up connections.
    fn poll_login(&mut self, cx: &mut Context<'_>, now: Millis) -> bool {
        let origin = Origin { address: self.address.ip().to_canonical(), protocol: self.protocol.name() };
        match self.session.request() {
            Some(Request::Authenticate(credentials)) => match self.server.authenticator.quick(&credentials, origin) {
                Some(outcome) => self.tell_outcome(outcome, now),
                None => {
                    let authenticator = Arc::clone(&self.server.authenticator);
                    let login = tokio::spawn(async move { authenticator.login(&credentials, origin).await });
                    self.entering.get_or_insert_default().login = Some(login);
                }
            },
            Some(Request::Sasl(response)) => {
                let exchange = &mut self.entering.get_or_insert_default().exchange;
                let outcome = self.server.authenticator.step(&response, origin, exchange);
                let is_accepted = matches!(outcome, SaslOutcome::Accepted { .. });
                self.tell_login(Reply::Sasl(outcome), is_accepted, now);
                return true;
            }
            Some(Request::Pending) | None => {}
        }
        let Some(entering) = &mut self.entering else { return false };
        let Some(login) = &mut entering.login else { return false };
        let Poll::Ready(outcome) = Pin::new(login).poll(cx) else { return false };
        entering.login = None;
        self.tell_outcome(outcome.unwrap_or(LoginOutcome::Refused), now);
        true
    }

    fn tell_outcome(&mut self, outcome: LoginOutcome, now: Millis) {
        let is_accepted = matches!(outcome, LoginOutcome::Accepted(_));
        self.tell_login(Reply::Login(outcome.into()), is_accepted, now);
    }

    fn tell_login(&mut self, reply: Reply, is_accepted: bool, now: Millis) {
        if is_accepted {
            self.entering = None;
        }
        self.left_is_ready = true;
        self.session.reply(reply, now);
    }

    /// Writes what waits. Returns whether anything went out.
    fn poll_output(&mut self, cx: &mut Context<'_>, now: Millis) -> Result<bool, Ended> {
        let mut busy = false;
        loop {
            if self.chunks.is_empty() && !self.outlet.drain(&mut self.chunks, cx.waker()) {
                break;
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(0)) => return Err(Ended::ByPeer),
                Poll::Ready(Ok(written)) => {
                    self.chunks.advance(written);
                    self.stuck_since = None;
                    self.session.sent(now);
                    busy = true;
                }
                Poll::Ready(Err(error)) => return Err(Ended::Failed(error)),
                Poll::Pending => {
                    self.stuck_since.get_or_insert(now);
                    break;
                }
            }
            if self.chunks.len() + self.outlet.pending_bytes() < limits::OUTPUT_BYTES_LOW {
                self.session.drained(now);
            }
        }
        // TLS keeps what the socket did not take, and is not asked for it again by a later write if there is none.
        if busy || self.is_unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.is_unflushed = false;
                    self.stuck_since = self.stuck_since.filter(|_| !self.chunks.is_empty());
                }
                Poll::Ready(Err(error)) => return Err(Ended::Failed(error)),
                Poll::Pending => {
                    self.is_unflushed = true;
                    self.stuck_since.get_or_insert(now);
                }
            }
        }
        Ok(busy)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(self.chunks.iter()) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])
    }

    /// Reads, and lets the session use it. Returns whether there was anything.
    fn poll_input(&mut self, cx: &mut Context<'_>, now: Millis) -> Result<bool, Ended> {
        if !self.may_read(now) {
            return Ok(false);
        }
        if self.left_is_ready && !self.left.is_empty() {
            self.offer_left();
            return Ok(true);
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            let kept = self.left.len();
            if buffer.len() < kept + READ_BYTES {
                buffer.resize(kept + READ_BYTES, 0);
            }
            let mut space = ReadBuf::new(&mut buffer[kept..]);
            let Poll::Ready(outcome) = Pin::new(&mut self.stream).poll_read(cx, &mut space) else { return Ok(false) };
            outcome.map_err(Ended::Failed)?;
            let len = space.filled().len();
            if len == 0 {
                return Err(Ended::ByPeer);
            }
            // The shorter part is copied to the longer one, so that a frame that comes byte by byte costs what one in a
            // single piece does.
            if len < kept {
                self.left.extend_from_slice(&buffer[kept..kept + len]);
                self.offer_left();
            } else {
                buffer[..kept].copy_from_slice(&self.left);
                let used = self.offer(&buffer[..kept + len]);
                self.left = buffer[used..kept + len].to_vec();
            }
            Ok(true)
        })
    }

    /// Lets the session use what is left of earlier input.
    fn offer_left(&mut self) {
        let mut left = std::mem::take(&mut self.left);
        let used = self.offer(&left);
        left.drain(..used);
        // Nothing is kept by a connection that has nothing to keep.
        self.left = if left.is_empty() { Vec::new() } else { left };
    }

    fn may_read(&mut self, now: Millis) -> bool {
        match self.session.intake() {
            Intake::Paused => {
                self.rest_until = None;
                return false;
            }
            Intake::Lagging if *self.rest_until.get_or_insert(now.plus(REST_MS)) > now => return false,
            Intake::Lagging => self.session.caught_up(),
            Intake::Open => {}
        }
        self.rest_until = None;
        self.chunks.len() + self.outlet.pending_bytes() <= OUTPUT_BYTES_MAX
    }

    /// Lets the session use input. Returns how much of it was used.
    fn offer(&mut self, input: &[u8]) -> usize {
        // The clock is read after the input: a message must not seem older than it is, or it would die too early.
        let used = self.session.receive(input, self.server.clock.now());
        self.left_is_ready = self.session.intake() == Intake::Paused;
        used
    }

    /// Lets time-outs take effect, and sets the timer for the next. Returns whether one did.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Millis) -> Result<bool, Ended> {
        let mut fired = false;
        fired |= self.rest_until.is_some_and(|at| at <= now);
        let write_ends = self.stuck_since.map(|since| since.plus(self.server.config.limits.write_timeout_ms));
        if write_ends.is_some_and(|at| at <= now) {
            return Err(Ended::NotTaking);
        }
        if self.session.deadline().is_some_and(|at| at <= now) {
            self.session.expire(now);
            fired = true;
        }
        let next = [write_ends, self.rest_until, self.session.deadline()].into_iter().flatten().min();
        // The timer is not moved back when a deadline moves on, as it does with every byte: it fires early and is set
        // anew.
        if let Some(next) = next.map(|next| self.server.clock.instant(next))
            && (!self.is_timed || next < self.timer.deadline() || self.timer.is_elapsed())
        {
            self.is_timed = true;
            self.timer.as_mut().reset(next);
        }
        if self.is_timed && self.timer.as_mut().poll(cx).is_ready() {
            self.is_timed = false;
            fired = true;
        }
        Ok(fired)
    }

    /// Ends the transport. What the client still sends is dropped until it hangs up, or time is up.
    fn poll_linger(&mut self, cx: &mut Context<'_>, now: Millis, hang_up: HangUp) -> Poll<()> {
        if !self.is_lingering {
            // What the transport still holds may take as long as any other write.
            let patience = if self.is_unflushed { self.server.config.limits.write_timeout_ms } else { LINGER_MS };
            self.is_lingering = true;
            self.timer.as_mut().reset(self.server.clock.instant(now.plus(patience)));
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            // Even a client that hung up first is told that nothing was cut off, which TLS can tell.
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            return Poll::Ready(());
        }
        if hang_up == HangUp::Broker {
            let _ = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
        }
        ready!(self.poll_end_of_input(cx));
        Pin::new(&mut self.stream).poll_shutdown(cx).map(|_| ())
    }

    fn poll_end_of_input(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(buffer.len().max(READ_BYTES), 0);
            loop {
                let mut space = ReadBuf::new(buffer);
                match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space)) {
                    Ok(()) if !space.filled().is_empty() => {}
                    _ => return Poll::Ready(()),
                }
            }
        })
    }
}
