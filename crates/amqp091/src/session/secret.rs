//! Logins that end: the connection is closed, unless the client brings a new secret in time (`connection.update-secret`, which
//! RabbitMQ has added to the specification).

use broker::{Credentials, Login, Request, session::Millis};

use super::{AmqpSession, Failure, Phase};
use crate::{
    mapping::{Code, Exception},
    method::Method,
    outgoing::key_of,
};

impl AmqpSession {
    /// A new secret. What the broker's own users may do does not depend on it.
    pub(super) fn update_secret(&mut self, secret: &[u8]) {
        match &self.caller {
            Some(caller) if caller.authorization.is_some() => {
                let credentials = Credentials::Password { user: caller.user.clone(), password: secret.to_vec() };
                self.request = Some(Request::Authenticate(credentials));
            }
            _ => self.outgoing.send(0, &Method::ConnectionUpdateSecretOk {}),
        }
    }

    /// Whether the new secret is good is known.
    pub(super) fn secret_updated(&mut self, login: Login, now: Millis) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        if let Err(exception) = self.renew(login) {
            self.fail(Failure { channel: 0, exception }, now);
        }
    }

    fn renew(&mut self, login: Login) -> Result<(), Exception> {
        let refused = || Exception::new(Code::NotAllowed, "New secret was refused by one of the backends");
        let (Login::Accepted(principal), Some(caller)) = (login, &mut self.caller) else { return Err(refused()) };
        // Who turns out to be somebody else does not get what the connection has.
        if principal.user != caller.user {
            return Err(refused());
        }
        let ends = principal.expires();
        self.broker.renew(caller, principal)?;
        self.login_ends = ends;
        // Routes are remembered with the permission to use them.
        for channel in self.channels.iter_mut().flatten() {
            channel.routes.clear();
            channel.last_route = None;
        }
        self.cancel_unreadable();
        self.outgoing.send(0, &Method::ConnectionUpdateSecretOk {});
        Ok(())
    }

    /// Cancels consumers whose queues may no longer be read.
    fn cancel_unreadable(&mut self) {
        let Some(caller) = self.caller.clone() else { return };
        let consumers = self.channels.iter().enumerate().flat_map(|(number, channel)| {
            let sources = channel.iter().flat_map(|channel| channel.consumers.values());
            sources.map(move |source| (number as u16, *source))
        });
        for (number, source) in consumers.collect::<Vec<_>>() {
            let Some(attachment) = self.attachment(key_of(number, source)) else { continue };
            if self.broker.check_readable(&caller, &attachment.queue.name).is_err() {
                self.broker.cancel(&caller, &attachment);
                self.consumer_gone(key_of(number, source));
            }
        }
    }

    /// Closes the connection of a client whose login has ended.
    pub(super) fn expire_login(&mut self, now: Millis) {
        if self.login_ends.is_none_or(|ends| ends > now) {
            return;
        }
        self.login_ends = None;
        if matches!(self.phase, Phase::Open) {
            let exception = Exception::new(Code::ConnectionForced, "credential expired");
            self.fail(Failure { channel: 0, exception }, now);
        }
    }
}
