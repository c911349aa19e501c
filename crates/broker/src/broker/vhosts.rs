//! Making and removing vhosts and users.

use std::sync::Arc;

use super::{Broker, DeleteRule, delays::SCHEDULES, events::named};
use crate::{
    identity::User,
    log::{Durability, Entry, Position},
    policy::PolicyKind,
    queue::Aftermath,
    record::State,
    topology::{QueueInfo, Removed, Vhost, VhostState},
    value::{Name, Table},
};

impl Broker {
    /// Says something of a vhost, which is made if it is not there: description, tags, default queue type.
    pub fn put_vhost(&self, name: &Name, metadata: Table) -> Position {
        self.add_vhost(name);
        if let Some(vhost) = self.vhost(name) {
            vhost.write().metadata = metadata.clone();
        }
        self.put_state(&State::Vhost { name: name.clone(), metadata })
    }

    /// Adds a vhost, if it is not there.
    pub fn add_vhost(&self, name: &Name) -> Position {
        let mut vhosts = self.vhosts.write();
        if vhosts.contains_key(name) {
            return Position(0);
        }
        vhosts.insert(name.clone(), Arc::new(Vhost::new(name.clone())));
        drop(vhosts);
        self.tell("vhost.created", || named(&[("name", name)]));
        self.put_state(&State::Vhost { name: name.clone(), metadata: Table::default() })
    }

    /// Removes a vhost with all that is in it: connections are told to end, and messages are gone. Returns whether it was
    /// there.
    ///
    /// The vhost's own entry goes last, so that a crash leaves a vhost with less in it, and never something in no vhost.
    pub fn delete_vhost(&self, name: &str) -> bool {
        let Some(vhost) = self.vhosts.write().remove(name) else { return false };
        let name = vhost.name();
        for connection in self.connections().iter().filter(|connection| connection.vhost == *name) {
            connection.close(&format!("vhost '{name}' is deleted"));
        }
        self.empty(&vhost);
        let permitted = self.identity.users().into_iter().filter(|(_, user)| user.permissions.contains_key(name));
        for (user, _) in permitted {
            self.change_user(&user, false, |user| {
                user.permissions.remove(name);
                user.topic_permissions.retain(|(vhost, _), _| vhost != name);
            });
        }
        for (_, component, parameter, _) in self.parameters().into_iter().filter(|(vhost, ..)| vhost == name) {
            self.delete_parameter(name, &component, &parameter);
        }
        let key = State::Vhost { name: name.clone(), metadata: Table::default() }.key();
        self.log.append(&[Entry::Remove { key: &key }], Durability::Fsync);
        self.tell("vhost.deleted", || named(&[("name", name)]));
        true
    }

    /// Removes all queues, exchanges and policies of a vhost.
    fn empty(&self, vhost: &Vhost) {
        let mut state = vhost.write();
        let queues: Vec<_> = state.queues().cloned().collect();
        for queue in queues {
            // Without a rule nothing keeps a queue.
            let _ = self.remove_queue(vhost, &mut state, &queue, DeleteRule::default());
        }
        let exchanges: Vec<Name> = state.exchanges().map(|(name, _)| name.clone()).collect();
        for exchange in exchanges {
            let removed = state.remove_exchange(&exchange);
            self.forget(vhost, without_predeclared(removed));
        }
        let keys: Vec<_> = [PolicyKind::User, PolicyKind::Operator]
            .into_iter()
            .flat_map(|kind| policy_keys(vhost, &state, kind))
            .collect();
        drop(state);
        let entries: Vec<_> = keys.iter().map(|key| Entry::Remove { key }).collect();
        if !entries.is_empty() {
            self.log.append(&entries, Durability::Os);
        }
        self.remove_delay_queue(vhost.name(), &SCHEDULES.into());
        if let Some(info) = self.retained.write().remove(vhost.name()) {
            self.remove_retained(&info);
        }
    }

    fn remove_retained(&self, info: &QueueInfo) {
        let mut after: Aftermath = self.aftermath();
        self.shards[self.shard_index(info.id)].lock().remove(info, &mut after);
        let key = State::Retained { vhost: info.vhost.clone(), id: info.id }.key();
        let drop = Entry::Drop { holder: info.holder(0), from: 0, before: u64::MAX, except: &[] };
        self.log.append(&[Entry::Remove { key: &key }, drop], Durability::Os);
        self.finish(after);
    }

    /// Adds or replaces a user.
    pub fn put_user(&self, name: &Name, user: User) -> Position {
        let event = if self.identity.user(name).is_some() { "user.updated" } else { "user.created" };
        self.tell(event, || named(&[("name", name)]));
        let position = self.put_state(&State::User(name.clone(), user.encode()));
        self.identity.put(name.clone(), user);
        self.void_routes();
        position
    }

    /// Changes a user, who is made if he is not there and `make` says so. Returns whether there is such a user now.
    pub fn change_user(&self, name: &Name, make: bool, change: impl FnOnce(&mut User)) -> bool {
        // Of two who change different things of one user, neither undoes what the other did.
        let _changing = self.changing_users.lock();
        let Some(mut user) = self.identity.user(name).or_else(|| make.then(User::default)) else { return false };
        change(&mut user);
        self.put_user(name, user);
        true
    }

    /// Removes a user, whose connections are told to end. Returns whether there was one.
    pub fn delete_user(&self, name: &str) -> bool {
        let _changing = self.changing_users.lock();
        if !self.identity.remove(name) {
            return false;
        }
        let key = State::User(name.into(), Vec::new()).key();
        self.log.append(&[Entry::Remove { key: &key }], Durability::Fsync);
        self.void_routes();
        for connection in self.connections().iter().filter(|connection| *connection.user == *name) {
            connection.close(&format!("user '{name}' is deleted"));
        }
        self.tell("user.deleted", || named(&[("name", name)]));
        true
    }

    /// Where the log has to be committed to, so that all that was done so far is safe.
    pub fn barrier(&self) -> Position {
        // To remove what is not there changes nothing, and comes behind everything else.
        self.log.append(&[Entry::Remove { key: b"~" }], Durability::Fsync)
    }

    /// Has sessions find their routes anew, because a permission changed.
    fn void_routes(&self) {
        self.vhosts.read().values().for_each(|vhost| vhost.touch());
    }
}

/// Exchanges that every vhost has are nowhere in the log.
fn without_predeclared(mut removed: Removed) -> Removed {
    removed.exchanges.retain(|name| !name.starts_with("amq."));
    removed
}

fn policy_keys(vhost: &Vhost, state: &VhostState, kind: PolicyKind) -> Vec<Vec<u8>> {
    let key = |name: &Name| {
        let (vhost, bytes) = (vhost.name().clone(), Vec::new());
        State::Policy { vhost, kind, name: name.clone(), bytes }.key()
    };
    state.policies.iter(kind).map(|(name, _)| key(name)).collect()
}
