//! Declaring, deleting and purging queues, and the queues that belong to a session.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{Broker, Caller, DeleteRule, QueueCounts, QueueDeclaration};
use crate::{
    arguments,
    identity::Access,
    log::{Durability, Entry, Position},
    outlet::{ConsumerKey, Outlet},
    queue::Purged,
    record::State,
    refusal::Refusal,
    topology::{QueueId, QueueInfo, QueueKind, Vhost, VhostState},
    value::{Table, Value},
};

impl Broker {
    /// The queue, if it exists and the session may touch it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] or [`Refusal::Locked`].
    pub fn queue(&self, caller: &Caller, name: &str) -> Result<Arc<QueueInfo>, Refusal> {
        let state = caller.vhost.read();
        let info = state.queue(name).ok_or_else(|| Refusal::NotFound(caller.vhost.queue_resource(name)))?;
        self.refuse_locked(caller, info)?;
        Ok(Arc::clone(info))
    }

    fn refuse_locked(&self, caller: &Caller, info: &QueueInfo) -> Result<(), Refusal> {
        match info.owner {
            Some(owner) if owner != caller.session => Err(Refusal::Locked(info.resource())),
            _ => Ok(()),
        }
    }

    /// How full a queue is.
    pub fn counts(&self, info: &QueueInfo) -> QueueCounts {
        if let QueueKind::Direct(..) = info.kind {
            return QueueCounts { consumers: 1, ..QueueCounts::default() };
        }
        let mut shard = self.shards[self.shard_index(info.id)].lock();
        shard.queue(info).map_or_else(QueueCounts::default, |queue| QueueCounts {
            ready: queue.backlog().ready(),
            held: queue.backlog().held(),
            consumers: queue.consumer_count(),
        })
    }

    /// Declares a queue. Returns it, and when the declaration is safe.
    ///
    /// # Errors
    /// If it exists with other properties, or may not be declared.
    pub fn declare_queue(
        &self,
        caller: &Caller,
        name: &str,
        declaration: QueueDeclaration,
    ) -> Result<(Arc<QueueInfo>, Position), Refusal> {
        let resource = || caller.vhost.queue_resource(name);
        self.identity.check(&caller.user, Access::Configure, resource())?;
        if let Some(existing) = caller.vhost.read().queue(name) {
            arguments::equivalent_queue(caller, existing, &declaration)?;
            return Ok((Arc::clone(existing), Position(0)));
        }
        self.check_queue_arguments(caller, name, &declaration.arguments)?;
        let mut state = caller.vhost.write();
        if let Some(existing) = state.queue(name) {
            arguments::equivalent_queue(caller, existing, &declaration)?;
            return Ok((Arc::clone(existing), Position(0)));
        }
        let info = Arc::new(QueueInfo {
            id: QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed)),
            vhost: caller.vhost.name().clone(),
            name: name.into(),
            durable: declaration.durable && !declaration.exclusive,
            auto_delete: declaration.auto_delete,
            owner: declaration.exclusive.then_some(caller.session),
            durability: QueueInfo::durability_of(&declaration.arguments),
            arguments: declaration.arguments,
            kind: QueueKind::Queue,
            slot: AtomicU32::new(0),
        });
        self.shards[self.shard_index(info.id)].lock().insert(&info);
        state.insert_queue(Arc::clone(&info));
        if info.owner.is_some() {
            self.owned.lock().entry(caller.session).or_default().push(Arc::clone(&info));
        }
        let position = if info.durable { self.put_state(&queue_state(&info)) } else { Position(0) };
        Ok((info, position))
    }

    /// Checks arguments that decide over permissions or cannot be right.
    fn check_queue_arguments(&self, caller: &Caller, name: &str, arguments: &Table) -> Result<(), Refusal> {
        let resource = || caller.vhost.queue_resource(name);
        arguments::check(resource, arguments)?;
        let dead_letter = arguments.get("x-dead-letter-exchange").and_then(Value::as_text);
        if let Some(exchange) = dead_letter {
            self.identity.check(&caller.user, Access::Read, resource())?;
            self.identity.check(&caller.user, Access::Write, caller.vhost.exchange_resource(exchange))?;
        }
        Ok(())
    }

    /// Whether a name is free for a client to give to a new queue.
    ///
    /// # Errors
    /// [`Refusal::ReservedName`] if it starts with `amq.` and no such queue exists.
    pub fn check_queue_name(&self, caller: &Caller, name: &str) -> Result<(), Refusal> {
        if name.starts_with("amq.") && caller.vhost.read().queue(name).is_none() {
            return Err(Refusal::ReservedName { kind: "queue", name: name.into() });
        }
        Ok(())
    }

    /// Makes a name that leads straight to one of a session's consumers, past any queue.
    pub fn open_direct(
        &self,
        caller: &Caller,
        name: &str,
        outlet: Arc<dyn Outlet>,
        key: ConsumerKey,
    ) -> Arc<QueueInfo> {
        let info = Arc::new(QueueInfo {
            id: QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed)),
            vhost: caller.vhost.name().clone(),
            name: name.into(),
            durable: false,
            auto_delete: true,
            owner: None,
            arguments: Table::default(),
            durability: Durability::Fsync,
            kind: QueueKind::Direct(outlet, key),
            slot: AtomicU32::new(u32::MAX),
        });
        caller.vhost.write().insert_queue(Arc::clone(&info));
        info
    }

    /// Deletes a queue. Returns how many messages waited in it, and when the deletion is safe.
    ///
    /// # Errors
    /// If it does not exist, is locked, or the rule forbids it.
    pub fn delete_queue(&self, caller: &Caller, name: &str, rule: DeleteRule) -> Result<(usize, Position), Refusal> {
        self.identity.check(&caller.user, Access::Configure, caller.vhost.queue_resource(name))?;
        let info = self.queue(caller, name)?;
        let mut state = caller.vhost.write();
        self.remove_queue(&caller.vhost, &mut state, &info, rule)
    }

    /// Removes a queue, its messages and its bindings.
    pub(super) fn remove_queue(
        &self,
        vhost: &Vhost,
        state: &mut VhostState,
        info: &Arc<QueueInfo>,
        rule: DeleteRule,
    ) -> Result<(usize, Position), Refusal> {
        let mut after = self.aftermath();
        let mut shard = self.shards[self.shard_index(info.id)].lock();
        let Some(queue) = shard.queue(info) else {
            let removed = state.remove_queue(info);
            return Ok((0, self.forget(vhost, removed)));
        };
        let ready = queue.backlog().ready();
        if rule.if_unused && queue.consumer_count() > 0 {
            return Err(Refusal::InUse(info.resource()));
        }
        if rule.if_empty && ready > 0 {
            return Err(Refusal::NotEmpty(info.resource()));
        }
        let queue = shard.remove(info, &mut after);
        drop(shard);
        let is_logged = queue.is_some_and(|queue| queue.is_logged());
        let removed = state.remove_queue(info);
        let mut position = self.forget(vhost, removed);
        let drop = Entry::Drop { holder: info.id.0, from: 0, before: u64::MAX, except: &[] };
        if info.durable {
            let key = queue_state(info).key();
            let entries = [Entry::Remove { key: &key }, drop];
            position = Position(self.log.append(&entries, Durability::Fsync).0 + 1);
        } else if is_logged {
            self.log.append(&[drop], Durability::Os);
        }
        if let Some(owner) = info.owner
            && let Some(owned) = self.owned.lock().get_mut(&owner)
        {
            owned.retain(|other| other.id != info.id);
        }
        self.finish(after);
        Ok((ready, position))
    }

    /// Deletes what belongs to a session alone.
    pub fn close_session(&self, caller: &Caller) {
        let owned = self.owned.lock().remove(&caller.session).unwrap_or_default();
        for queue in owned {
            let mut state = caller.vhost.write();
            let _ = self.remove_queue(&caller.vhost, &mut state, &queue, DeleteRule::default());
        }
    }

    /// Closes a name opened by [`Broker::open_direct`].
    pub fn close_direct(&self, caller: &Caller, info: &QueueInfo) {
        caller.vhost.write().remove_queue(info);
    }

    /// Removes all messages that wait. Returns how many there were, and when their removal is safe.
    ///
    /// # Errors
    /// If the queue does not exist or the caller may not.
    pub fn purge(&self, caller: &Caller, name: &str) -> Result<(usize, Position), Refusal> {
        self.identity.check(&caller.user, Access::Read, caller.vhost.queue_resource(name))?;
        let info = self.queue(caller, name)?;
        let purged = self.shards[self.shard_index(info.id)].lock().purge(&info);
        let Purged { count, records, range, except } = purged;
        let mut entries = Vec::new();
        if !records.is_empty() {
            entries.push(Entry::Release { holder: info.id.0, positions: &records });
        }
        if let Some((from, before)) = range {
            entries.push(Entry::Drop { holder: info.id.0, from, before, except: &except });
        }
        if entries.is_empty() {
            return Ok((count, Position(0)));
        }
        let first = self.log.append(&entries, Durability::Fsync);
        Ok((count, Position(first.0 + entries.len() as u64 - 1)))
    }
}

fn queue_state(info: &QueueInfo) -> State {
    State::Queue {
        vhost: info.vhost.clone(),
        name: info.name.clone(),
        id: info.id,
        auto_delete: info.auto_delete,
        arguments: info.arguments.clone(),
    }
}
