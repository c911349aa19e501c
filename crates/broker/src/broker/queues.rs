//! Declaring, deleting and purging queues, and the queues that belong to a session.

use std::sync::{Arc, atomic::Ordering};

use super::{Broker, Caller, DeleteRule, QueueCounts, QueueDeclaration, connections::Change, events};
use crate::{
    arguments,
    identity::Access,
    log::{Durability, Entry, Position},
    outlet::{ConsumerKey, Outlet},
    queue::{Purged, Queue},
    record::State,
    refusal::Refusal,
    topology::{QueueId, QueueInfo, QueueKind, QueueType, Vhost, VhostState},
    value::Value,
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
        let counts = |queue: &mut Queue| QueueCounts {
            ready: queue.ready(),
            held: queue.held(),
            consumers: queue.consumer_count(),
        };
        shard.with(info, counts).unwrap_or_default()
    }

    /// Declares a queue. Returns it, and when the declaration is safe.
    ///
    /// # Errors
    /// If it exists with other properties, or may not be declared.
    pub fn declare_queue(
        &self,
        caller: &Caller,
        name: &str,
        mut declaration: QueueDeclaration,
    ) -> Result<(Arc<QueueInfo>, Position), Refusal> {
        let resource = || caller.vhost.queue_resource(name);
        self.check(caller, Access::Configure, resource())?;
        self.churn.count(Change::QueueDeclared);
        let default = caller.vhost.read().default_queue_type();
        // A queue that could not be of the vhost's default type is a classic one.
        let could_be = !declaration.exclusive && !declaration.auto_delete && declaration.durable;
        if default != QueueType::Classic && could_be && declaration.arguments.get("x-queue-type").is_none() {
            declaration.arguments.push("x-queue-type", default.name().into());
        }
        if let Some(existing) = caller.vhost.read().queue(name) {
            arguments::equivalent_queue(caller, existing, &declaration)?;
            self.use_queue(existing);
            return Ok((Arc::clone(existing), Position(0)));
        }
        self.check_declaration(caller, name, &declaration)?;
        let mut state = caller.vhost.write();
        if let Some(existing) = state.queue(name) {
            arguments::equivalent_queue(caller, existing, &declaration)?;
            self.use_queue(existing);
            return Ok((Arc::clone(existing), Position(0)));
        }
        self.check_queue_limit(caller, &state, name)?;
        let id = QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed));
        let mut info =
            QueueInfo::new(id, caller.vhost.name().clone(), name.into(), arguments::queue_type(&declaration.arguments));
        info.durable = declaration.durable && !declaration.exclusive;
        info.auto_delete = declaration.auto_delete;
        info.owner = declaration.exclusive.then_some(caller.session);
        info.durability = QueueInfo::durability_of(&declaration.arguments);
        info.past = QueueInfo::past_of(&declaration.arguments);
        info.arguments = declaration.arguments;
        *info.rules.get_mut() = Arc::new(state.rules_of(&info));
        let info = Arc::new(info);
        self.shards[self.shard_index(info.id)].lock().insert(&info, self.now());
        state.insert_queue(Arc::clone(&info));
        if info.owner.is_some() {
            self.owned.lock().entry(caller.session).or_default().push(Arc::clone(&info));
        }
        let position = if info.durable { self.put_state(&queue_state(&info)) } else { Position(0) };
        drop(state);
        self.alarm.ring();
        self.churn.count(Change::QueueCreated);
        self.note_made(&info);
        self.tell("queue.created", || events::of_queue(&info));
        Ok((info, position))
    }

    /// To declare a classic queue again is to use it, and so is to ask whether it is there.
    pub fn use_queue(&self, info: &QueueInfo) {
        if info.queue_type == QueueType::Classic {
            self.shards[self.shard_index(info.id)].lock().with(info, |queue| queue.note_used(self.now()));
        }
    }

    /// Checks arguments that decide over permissions or cannot be right.
    fn check_declaration(&self, caller: &Caller, name: &str, declaration: &QueueDeclaration) -> Result<(), Refusal> {
        let resource = || caller.vhost.queue_resource(name);
        arguments::check(resource, declaration)?;
        let dead_letter = declaration.arguments.get("x-dead-letter-exchange").and_then(Value::as_text);
        if let Some(exchange) = dead_letter {
            self.check(caller, Access::Read, resource())?;
            self.check(caller, Access::Write, caller.vhost.exchange_resource(exchange))?;
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
        let id = QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed));
        let mut info = QueueInfo::new(id, caller.vhost.name().clone(), name.into(), QueueType::Classic);
        (info.auto_delete, info.kind) = (true, QueueKind::Direct(outlet, key));
        info.slot.store(u32::MAX, Ordering::Relaxed);
        let info = Arc::new(info);
        caller.vhost.write().insert_queue(Arc::clone(&info));
        info
    }

    /// Says where messages go that a queue does not take because they need not survive anything.
    pub fn set_past(&self, info: &QueueInfo, to: Option<(Arc<dyn Outlet>, ConsumerKey)>) {
        if let Some(past) = &info.past {
            *past.write() = to;
        }
    }

    /// Deletes a queue. Returns how many messages waited in it, and when the deletion is safe.
    ///
    /// # Errors
    /// If it does not exist, is locked, or the rule forbids it.
    pub fn delete_queue(&self, caller: &Caller, name: &str, rule: DeleteRule) -> Result<(usize, Position), Refusal> {
        self.check(caller, Access::Configure, caller.vhost.queue_resource(name))?;
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
        let Some((ready, consumers)) = shard.with(info, |queue| (queue.ready(), queue.consumer_count())) else {
            let removed = state.remove_queue(info);
            return Ok((0, self.forget(vhost, removed)));
        };
        // A stream goes whatever is in it, and whoever reads it; so RabbitMQ has it.
        let (ready, rule) =
            if info.queue_type == QueueType::Stream { (0, DeleteRule::default()) } else { (ready, rule) };
        if rule.if_unused && consumers > 0 {
            return Err(Refusal::InUse(info.resource()));
        }
        if rule.if_empty && ready > 0 {
            return Err(Refusal::NotEmpty(info.resource()));
        }
        let queue = shard.remove(info, &mut after);
        drop(shard);
        let priorities: Vec<u8> = queue.iter().filter(|queue| queue.is_logged()).flat_map(|q| q.priorities()).collect();
        let removed = state.remove_queue(info);
        let mut position = self.forget(vhost, removed);
        let segments = queue.iter().flat_map(|queue| queue.segment_offsets());
        let mut keys: Vec<_> = segments.map(|offset| State::segment_key(info.id, offset)).collect();
        let attempted = queue.iter().flat_map(|queue| queue.attempted());
        keys.extend(attempted.map(|record| State::attempts_key(info.id, record)));
        if info.durable && info.queue_type != QueueType::Delay {
            keys.push(queue_state(info).key());
        }
        if info.is_timed.load(Ordering::Relaxed) {
            keys.push(State::Timed(info.id).key());
        }
        let mut entries: Vec<_> = keys.iter().map(|key| Entry::Remove { key }).collect();
        let gone = |priority| Entry::Drop { holder: info.holder(priority), from: 0, before: u64::MAX, except: &[] };
        entries.extend(priorities.into_iter().map(gone));
        if !entries.is_empty() {
            let durability = if info.durable { Durability::Fsync } else { Durability::Os };
            let last = self.log.append(&entries, durability).0 + entries.len() as u64 - 1;
            position = if info.durable { Position(last) } else { position };
        }
        if let Some(owner) = info.owner
            && let Some(owned) = self.owned.lock().get_mut(&owner)
        {
            owned.retain(|other| other.id != info.id);
        }
        self.finish(after);
        self.churn.count(Change::QueueDeleted);
        self.tell("queue.deleted", || events::of_queue(info));
        Ok((ready, position))
    }

    /// Deletes what belongs to a session alone.
    pub fn close_session(&self, caller: &Caller) {
        self.count_out(caller.session);
        self.dismiss(caller.session);
        self.tell("connection.closed", || events::named(&[("user", &caller.user), ("vhost", caller.vhost.name())]));
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
        self.check(caller, Access::Read, caller.vhost.queue_resource(name))?;
        let info = self.queue(caller, name)?;
        self.refuse_stream(&info, "queue.purge")?;
        let mut after = self.aftermath();
        let purged = self.shards[self.shard_index(info.id)].lock().purge(&info, &mut after);
        self.finish(after);
        let count = purged.iter().map(|(_, purged)| purged.count).sum();
        let mut entries = Vec::new();
        for (priority, Purged { records, range, except, .. }) in &purged {
            let holder = info.holder(*priority);
            if !records.is_empty() {
                entries.push(Entry::Release { holder, positions: records });
            }
            if let Some((from, before)) = *range {
                entries.push(Entry::Drop { holder, from, before, except });
            }
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
