//! Where dead letters go from queues that have no rule for them: nobody loses what a JMS client relies on.

use super::{Broker, QueueDeclaration};
use crate::{
    message::{Origin, Traits},
    rules::{DeadLetterTarget, Rules},
    session::Millis,
    topology::QueueInfo,
    value::Name,
};

/// The longest name of a queue, in bytes.
const NAME_BYTES: usize = 255;

/// What becomes of messages that nobody can digest, or that expired, in queues without a dead letter exchange.
#[derive(Clone, Debug)]
pub struct Letters {
    /// The queue that gets them.
    pub queue: Name,
    /// With this each queue has one of its own for them, whose name is this and the queue's.
    pub prefix: Option<Name>,
    /// Which of them are kept.
    pub kept: Kept,
}

/// Which messages are kept that leave a queue without a rule for them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// Those that are not durable too, if nobody can digest them.
    pub transient: bool,
    /// Durable ones whose time is over, if they came by this protocol.
    pub expired: Option<Origin>,
}

impl Default for Letters {
    fn default() -> Self {
        Self { queue: "dead-letters".into(), prefix: None, kept: Kept::default() }
    }
}

impl Kept {
    /// Whether a message is kept whose time is over.
    pub(crate) fn keeps_expired(self, traits: &Traits) -> bool {
        traits.durable && self.may_keep_expired(traits.origin, traits.due)
    }

    /// Whether a message may be kept once its time is over.
    pub(crate) fn may_keep_expired(self, origin: Origin, due: Option<Millis>) -> bool {
        due.is_some() && self.expired == Some(origin)
    }
}

impl Broker {
    /// Where letters of a queue go that has no rule for them. The queue for them is made if it is not there.
    pub(super) fn letter_target(&self, queue: &QueueInfo, rules: &Rules) -> DeadLetterTarget {
        let letters = &self.settings.letters;
        let prefix = rules.dead_letter_prefix.as_ref().or(letters.prefix.as_ref()).filter(|prefix| !prefix.is_empty());
        let own = prefix.map(|prefix| format!("{prefix}{}", queue.name)).filter(|name| name.len() <= NAME_BYTES);
        let name = own.map_or_else(|| letters.queue.clone(), Name::from);
        if let Ok(operator) = self.operator(&queue.vhost)
            && self.queue(&operator, &name).is_err()
        {
            let declaration = QueueDeclaration { durable: true, ..QueueDeclaration::default() };
            // Somebody else may make it at the same time, in another way, which will do as well.
            let _ = self.declare_queue(&operator, &name, declaration);
        }
        DeadLetterTarget { exchange: "".into(), routing_key: Some(name), at_least_once: false }
    }
}
