//! Message groups: all messages of a group go to one consumer as long as it is there, whatever else the queue's consumers do.
//!
//! They are in force from the first message with a group on, while somebody consumes who knows groups. From then on every
//! consumer looks for messages (see [`super::selecting`]) and passes over those of groups that others have.

use std::{
    cell::Cell,
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{ConsumerId, Queue};
use crate::{
    limits,
    message::{Codec, Message, MessageView, Origin},
    value::{Table, Value},
};

/// The header that names a message's group. JMS has it as a property (Jakarta Messaging 3.1, section 3.5.11).
pub const GROUP_ID: &str = "JMSXGroupID";

/// The header with a message's number in its group. With ActiveMQ a negative one ends the group.
pub const GROUP_SEQUENCE: &str = "JMSXGroupSeq";

/// The group that a message belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// By this a queue knows the group. Groups that have the same go to the same consumer.
    place: u32,
    /// Whether it is the last message: whoever has the group no longer has it after that.
    is_last: bool,
}

impl Group {
    /// The group of a name, with the message's number in it.
    pub fn new(name: &str, sequence: i64) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self { place: (hasher.finish() % u64::from(limits::GROUPS)) as u32, is_last: sequence < 0 }
    }

    /// The group that headers tell of, if they do.
    pub fn of_headers(headers: &Table) -> Option<Self> {
        let name = headers.get(GROUP_ID).and_then(Value::as_text).filter(|name| !name.is_empty())?;
        let sequence = headers.get(GROUP_SEQUENCE);
        let sequence = sequence.and_then(|value| value.as_integer().or_else(|| value.as_text()?.trim().parse().ok()));
        Some(Self::new(name, sequence.unwrap_or(0)))
    }
}

/// How to tell a message's group.
#[derive(Clone)]
pub struct Grouping(Arc<[(Origin, Arc<dyn Codec>)]>);

impl Grouping {
    pub(crate) fn new(codecs: Vec<(Origin, Arc<dyn Codec>)>) -> Self {
        Self(codecs.into())
    }

    fn of(&self, message: &MessageView<'_>) -> Option<Group> {
        let (_, codec) = self.0.iter().find(|(origin, _)| *origin == message.origin)?;
        codec.group(message.properties)
    }
}

impl fmt::Debug for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grouping")
    }
}

/// The groups of a queue, and who has them.
#[derive(Debug)]
pub(super) struct Groups {
    grouping: Grouping,
    /// Consumers that know groups.
    members: usize,
    /// Whether there was a message with a group.
    in_force: bool,
    owners: HashMap<u32, Owner>,
    /// Consumers that are gone, and how many messages they still hold. Until these are settled or back in their places,
    /// nobody else gets anything of their groups.
    leaving: Vec<(ConsumerId, u32)>,
}

#[derive(Debug)]
struct Owner {
    consumer: ConsumerId,
    /// Whether others have passed over a message of the group.
    is_passed: Cell<bool>,
}

impl Groups {
    fn new(grouping: Grouping) -> Self {
        let (owners, leaving) = (HashMap::new(), Vec::new());
        Self { grouping, members: 0, in_force: false, owners, leaving }
    }

    pub(super) fn are_in_force(&self) -> bool {
        self.in_force
    }

    /// Whether they are in force, now that this message is there.
    fn meet(&mut self, message: &MessageView<'_>) -> bool {
        self.in_force = self.in_force || self.grouping.of(message).is_some();
        self.in_force
    }

    /// Whether a consumer may have a message.
    pub(super) fn allow(&self, consumer: ConsumerId, message: &Message) -> bool {
        let owner = self.grouping.of(&message.view()).and_then(|group| self.owners.get(&group.place));
        let other = owner.filter(|owner| owner.consumer != consumer);
        other.is_none_or(|other| {
            other.is_passed.set(true);
            false
        })
    }

    /// A consumer gets a message.
    fn claim(&mut self, consumer: ConsumerId, message: &MessageView<'_>) -> Claim {
        let Some(group) = self.grouping.of(message) else { return Claim::default() };
        if group.is_last {
            let owner = self.owners.remove(&group.place);
            let opens = owner.as_ref().is_some_and(|owner| owner.is_passed.get());
            return Claim { is_first: owner.is_none(), opens };
        }
        let is_first = !self.owners.contains_key(&group.place);
        if is_first {
            self.owners.insert(group.place, Owner { consumer, is_passed: Cell::new(false) });
        }
        Claim { is_first, opens: false }
    }

    /// A consumer no longer has its groups. Returns whether it had any.
    fn release(&mut self, consumer: ConsumerId) -> bool {
        let before = self.owners.len();
        self.owners.retain(|_, owner| owner.consumer != consumer);
        self.owners.len() < before
    }

    /// Messages of a consumer that is gone have been settled. Returns whether its groups are free now.
    fn settled(&mut self, consumer: ConsumerId, count: usize) -> bool {
        let Some(place) = self.leaving.iter().position(|(leaving, _)| *leaving == consumer) else { return false };
        let held = &mut self.leaving[place].1;
        *held = held.saturating_sub(count as u32);
        if *held > 0 {
            return false;
        }
        self.leaving.swap_remove(place);
        self.release(consumer)
    }

    fn are_over(&self) -> bool {
        self.members == 0 && self.leaving.is_empty()
    }
}

/// What it means that a consumer gets a message.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    /// It has not had a message of the group before, as far as is known.
    is_first: bool,
    /// Others may have what is left of the group.
    opens: bool,
}

/// What would be handed out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upcoming {
    /// Nothing, or nothing that is in memory.
    Nothing,
    /// A message, for anybody.
    Message,
    /// A message of a group: from now on, consumers look for messages.
    OfGroup,
}

impl Queue {
    /// Whether all consumers look for messages, because there are groups. `coming` is a message that is about to wait.
    pub(super) fn meets_groups(&mut self, coming: &MessageView<'_>) -> bool {
        self.groups.as_mut().is_some_and(|groups| groups.meet(coming))
    }

    /// What would be handed out next.
    pub(super) fn upcoming(&mut self) -> Upcoming {
        let mut waiting = self.levels.iter_mut().map(|(_, backlog)| backlog).filter(|backlog| backlog.ready() > 0);
        let Some(next) = waiting.next() else { return Upcoming::Nothing };
        match &mut self.groups {
            None if next.has_next() => Upcoming::Message,
            None => Upcoming::Nothing,
            Some(groups) => match next.next_message() {
                Some(message) if groups.meet(&message.view()) => Upcoming::OfGroup,
                Some(_) => Upcoming::Message,
                None => Upcoming::Nothing,
            },
        }
    }

    pub(super) fn has_groups(&self) -> bool {
        self.groups.as_ref().is_some_and(|groups| groups.in_force)
    }

    /// Consumers look for messages anyway: groups cost nothing more from now on.
    pub(super) fn enforce_groups(&mut self) {
        if let Some(groups) = &mut self.groups {
            groups.in_force = true;
        }
    }

    /// A consumer has come that knows groups.
    pub(super) fn join_groups(&mut self, grouping: Grouping) {
        self.groups.get_or_insert_with(|| Box::new(Groups::new(grouping))).members += 1;
    }

    /// A consumer is gone, which knew groups, or only took part. Returns whether others may get what it leaves.
    pub(super) fn leave_groups(&mut self, id: ConsumerId, knew: bool, held: u32) -> bool {
        let Some(groups) = &mut self.groups else { return false };
        groups.members -= usize::from(knew);
        let is_free = if held > 0 {
            groups.leaving.push((id, held));
            false
        } else {
            groups.release(id)
        };
        self.open_groups(is_free)
    }

    /// A consumer that is gone has had messages settled.
    pub(super) fn settled_in_groups(&mut self, id: ConsumerId, count: usize) {
        if let Some(groups) = &mut self.groups {
            let is_free = groups.settled(id, count);
            self.open_groups(is_free);
        }
    }

    /// A consumer is late: others may have its groups.
    pub(super) fn lose_groups(&mut self, id: ConsumerId) {
        if let Some(groups) = &mut self.groups {
            let is_free = groups.release(id);
            self.open_groups(is_free);
        }
    }

    /// A consumer gets a message. Returns whether that is the first of its group for it.
    pub(super) fn claim_group(&mut self, index: u32, message: &MessageView<'_>) -> bool {
        let Some(groups) = self.groups.as_mut().filter(|groups| groups.in_force) else { return false };
        let Some(attached) = self.consumers.at(index) else { return false };
        let Claim { is_first, opens } = groups.claim(attached.id, message);
        if opens {
            self.open_groups(true);
        }
        is_first
    }

    /// What consumers have passed over may be theirs now; all of it, if nobody is left who knows groups.
    fn open_groups(&mut self, is_free: bool) -> bool {
        let are_over = self.groups.as_ref().is_some_and(|groups| groups.are_over());
        if are_over {
            self.groups = None;
        }
        if is_free || are_over {
            self.levels.iter_mut().for_each(|(_, backlog)| backlog.restart_readers());
            self.consumers.stir();
        }
        is_free || are_over
    }
}
