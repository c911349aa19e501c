//! Who is there, as far as limits of users and vhosts count it: connections, channels, queues.

use std::collections::HashMap;

use super::{Broker, Caller, connections::Change, events::named};
use crate::{
    refusal::Refusal,
    session::SessionId,
    topology::VhostState,
    value::{Name, Value},
};

/// The limits that a vhost may have.
pub const VHOST_LIMITS: [&str; 2] = ["max-connections", "max-queues"];

/// The limits that a user may have.
pub const USER_LIMITS: [&str; 2] = ["max-connections", "max-channels"];

/// Sessions that have entered a vhost, and how many there are by vhost and by user.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    sessions: HashMap<SessionId, Account>,
    by_vhost: HashMap<Name, u64>,
    by_user: HashMap<Name, u64>,
    channels: HashMap<Name, u64>,
}

#[derive(Debug)]
struct Account {
    vhost: Name,
    user: Name,
    channels: u64,
}

fn take_from(counts: &mut HashMap<Name, u64>, name: &Name, number: u64) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(number);
        if *count == 0 {
            counts.remove(name);
        }
    }
}

impl Broker {
    /// A limit of a vhost, if it has one.
    fn vhost_limit(&self, vhost: &Name, limit: &str) -> Option<u64> {
        let parameters = self.parameters.read();
        let Value::Table(limits) = parameters.get(&(vhost.clone(), "vhost-limits".into(), "limits".into()))? else {
            return None;
        };
        limits.get(limit).and_then(Value::as_integer).and_then(|limit| u64::try_from(limit).ok())
    }

    /// Counts a session in, if the limits of its vhost and its user let it.
    pub(super) fn count_in(&self, caller: &Caller) -> Result<(), Refusal> {
        let (vhost, user) = (caller.vhost.name(), &caller.user);
        let mut accounts = self.accounts.lock();
        let count = |counts: &HashMap<Name, u64>, name| counts.get(name).copied().unwrap_or(0);
        if let Some(limit) = self.vhost_limit(vhost, "max-connections")
            && count(&accounts.by_vhost, vhost) >= limit
        {
            let text =
                format!("access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached");
            return Err(Refusal::TooMany(text));
        }
        if let Some(limit) = self.identity.limit(user, "max-connections")
            && count(&accounts.by_user, user) >= limit
        {
            let text = format!("connection refused for user '{user}': user connection limit ({limit}) is reached");
            return Err(Refusal::TooMany(text));
        }
        *accounts.by_vhost.entry(vhost.clone()).or_default() += 1;
        *accounts.by_user.entry(user.clone()).or_default() += 1;
        let account = Account { vhost: vhost.clone(), user: user.clone(), channels: 0 };
        accounts.sessions.insert(caller.session, account);
        Ok(())
    }

    /// Counts a session out, once.
    pub(super) fn count_out(&self, session: SessionId) {
        let mut accounts = self.accounts.lock();
        let Some(Account { vhost, user, channels }) = accounts.sessions.remove(&session) else { return };
        take_from(&mut accounts.by_vhost, &vhost, 1);
        take_from(&mut accounts.by_user, &user, 1);
        take_from(&mut accounts.channels, &user, channels);
        (0..channels).for_each(|_| self.churn.count(Change::ChannelClosed));
    }

    /// Counts a channel in, if its user may have another.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] if not.
    pub fn open_channel(&self, caller: &Caller) -> Result<(), Refusal> {
        let user = &caller.user;
        let mut accounts = self.accounts.lock();
        if let Some(limit) = self.identity.limit(user, "max-channels")
            && accounts.channels.get(user).copied().unwrap_or(0) >= limit
        {
            return Err(Refusal::TooMany(format!(
                "number of channels opened for user '{user}' has reached the maximum allowed user limit of ({limit})"
            )));
        }
        if let Some(account) = accounts.sessions.get_mut(&caller.session) {
            account.channels += 1;
            *accounts.channels.entry(user.clone()).or_default() += 1;
        }
        drop(accounts);
        self.churn.count(Change::ChannelCreated);
        self.tell("channel.created", || named(&[("user", user), ("vhost", caller.vhost.name())]));
        Ok(())
    }

    /// Counts a channel out.
    pub fn close_channel(&self, caller: &Caller) {
        let mut accounts = self.accounts.lock();
        if let Some(account) = accounts.sessions.get_mut(&caller.session)
            && account.channels > 0
        {
            account.channels -= 1;
            self.churn.count(Change::ChannelClosed);
            take_from(&mut accounts.channels, &caller.user, 1);
        }
    }

    /// Refuses a queue more than its vhost may have.
    pub(super) fn check_queue_limit(&self, caller: &Caller, state: &VhostState, name: &str) -> Result<(), Refusal> {
        let vhost = caller.vhost.name();
        let Some(limit) = self.vhost_limit(vhost, "max-queues") else { return Ok(()) };
        if (state.queues().filter(|queue| queue.is_ordinary()).count() as u64) < limit {
            return Ok(());
        }
        let text = format!("cannot declare queue '{name}': queue limit in vhost '{vhost}' ({limit}) is reached");
        Err(Refusal::Limit(text))
    }
}
