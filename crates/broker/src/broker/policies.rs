//! Policies and runtime parameters: what an operator changes while the broker runs.

use std::sync::Arc;

use super::{Broker, events};
use crate::{
    log::{Durability, Entry, Position},
    policy::{Policies, Policy, PolicyKind},
    record::State,
    topology::{QueueInfo, Vhost},
    value::{Name, Value},
};

impl Broker {
    /// Adds or replaces a policy. It applies at once, to what exists as to what comes.
    ///
    /// # Errors
    /// If the vhost does not exist, or the policy says something that makes no sense.
    pub fn put_policy(&self, vhost: &str, kind: PolicyKind, name: &Name, policy: Policy) -> Result<Position, String> {
        policy.check(kind)?;
        let vhost = self.vhost(vhost).ok_or_else(|| format!("vhost {vhost} not found"))?;
        let (of, bytes) = (vhost.name().clone(), policy.encode());
        let position = self.put_state(&State::Policy { vhost: of, kind, name: name.clone(), bytes });
        self.change_policies(&vhost, |policies| policies.insert(kind, name.clone(), policy));
        self.tell("policy.set", || events::named(&[("name", name), ("vhost", vhost.name())]));
        Ok(position)
    }

    /// Removes a policy. Returns whether it was there.
    pub fn delete_policy(&self, vhost: &str, kind: PolicyKind, name: &str) -> bool {
        let Some(vhost) = self.vhost(vhost) else { return false };
        let mut was_there = false;
        self.change_policies(&vhost, |policies| was_there = policies.remove(kind, name));
        if was_there {
            let (of, bytes) = (vhost.name().clone(), Vec::new());
            let key = State::Policy { vhost: of, kind, name: name.into(), bytes }.key();
            self.log.append(&[Entry::Remove { key: &key }], Durability::Fsync);
            self.tell("policy.cleared", || events::named(&[("name", name), ("vhost", vhost.name())]));
        }
        was_there
    }

    fn change_policies(&self, vhost: &Vhost, change: impl FnOnce(&mut Policies)) {
        let mut state = vhost.write();
        change(&mut state.policies);
        let mut changed = Vec::new();
        for info in state.queues() {
            let rules = Arc::new(state.rules_of(info));
            if **info.rules.read() != *rules {
                *info.rules.write() = Arc::clone(&rules);
                changed.push((Arc::clone(info), rules));
            }
        }
        drop(state);
        for (info, rules) in changed {
            let mut after = self.aftermath();
            let mut shard = self.shards[self.shard_index(info.id)].lock();
            shard.with(&info, |queue| queue.follow(rules, &mut after));
            drop(shard);
            self.finish(after);
        }
    }

    /// The name of the policy of a kind that applies to a queue.
    pub fn policy_of(&self, info: &QueueInfo, kind: PolicyKind) -> Option<Name> {
        let vhost = self.vhost(&info.vhost)?;
        let state = vhost.read();
        state.policies.for_queue(kind, &info.name, info.queue_type).map(|(name, _)| name.clone())
    }

    /// Sets a runtime parameter: of a vhost, or of all with an empty name.
    pub fn put_parameter(&self, vhost: &Name, component: &Name, name: &Name, value: Value) -> Position {
        let key = (vhost.clone(), component.clone(), name.clone());
        self.parameters.write().insert(key.clone(), value.clone());
        let (vhost, component, name) = key;
        self.tell("parameter.set", || events::named(&[("component", &component), ("name", &name), ("vhost", &vhost)]));
        self.put_state(&State::Parameter { vhost, component, name, value })
    }

    /// Removes a runtime parameter. Returns whether it was there.
    pub fn delete_parameter(&self, vhost: &Name, component: &Name, name: &Name) -> bool {
        let key = (vhost.clone(), component.clone(), name.clone());
        let Some(value) = self.parameters.write().remove(&key) else { return false };
        let (vhost, component, name) = key;
        let key = State::Parameter { vhost, component, name, value }.key();
        self.log.append(&[Entry::Remove { key: &key }], Durability::Fsync);
        true
    }

    /// All runtime parameters: vhost, component, name and value.
    pub fn parameters(&self) -> Vec<(Name, Name, Name, Value)> {
        let parameters = self.parameters.read();
        let all = parameters
            .iter()
            .map(|((vhost, component, name), value)| (vhost.clone(), component.clone(), name.clone(), value.clone()));
        all.collect()
    }
}
