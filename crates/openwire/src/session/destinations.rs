//! Destinations that clients make and remove, and the temporary ones of each connection.

use broker::{DeleteRule, Position, QueueDeclaration, Refusal, broker::Caller};

use super::OpenWireSession;
use crate::{
    connection::DestinationInfo,
    ids::DestinationKind,
    mapping::{Address, Exception, addresses},
    shared::Temporary,
};

const ADD: i8 = 0;
const REMOVE: i8 = 1;

impl OpenWireSession {
    /// A destination is to be made or removed.
    pub(super) fn destination(&mut self, info: &DestinationInfo<'_>) -> Result<Position, Exception> {
        let Some(caller) = self.caller.clone() else { return Ok(Position(0)) };
        let destination = info.destination.as_ref().ok_or_else(|| Exception::jms("a destination without a name"))?;
        let kind = destination.kind;
        let mut position = Position(0);
        for address in addresses(destination)? {
            position = position.max(match info.operation_type {
                ADD if kind.is_temporary() => self.add_temporary(&caller, &address, kind)?,
                ADD => self.make(&caller, &address)?,
                REMOVE if kind.is_temporary() => self.remove_temporary(&caller, address.name(), kind)?,
                REMOVE => self.unmake(&caller, &address)?,
                other => return Err(Exception::jms(format!("there is no operation {other} of a destination"))),
            });
        }
        Ok(position)
    }

    fn make(&mut self, caller: &Caller, address: &Address) -> Result<Position, Exception> {
        match address {
            Address::Queue(name) => self.queue_for(caller, name, DestinationKind::Queue).map(|(_, position)| position),
            // A topic is there as soon as somebody names it.
            Address::Topic(_) => Ok(Position(0)),
        }
    }

    fn unmake(&mut self, caller: &Caller, address: &Address) -> Result<Position, Exception> {
        let Address::Queue(name) = address else { return Ok(Position(0)) };
        let rule = DeleteRule { if_unused: true, if_empty: false };
        match self.broker.delete_queue(caller, name, rule) {
            Ok((_, position)) => {
                self.advise_queue(caller, name, false);
                Ok(position)
            }
            Err(Refusal::NotFound(_)) => Ok(Position(0)),
            Err(Refusal::InUse(_)) => {
                Err(Exception::jms(format!("Destination still has an active subscription: queue://{name}")))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn add_temporary(
        &mut self,
        caller: &Caller,
        address: &Address,
        kind: DestinationKind,
    ) -> Result<Position, Exception> {
        let Some(connection_id) = self.client.connection_id.clone() else {
            return Err(Exception::jms("a temporary destination of no connection"));
        };
        let name = address.name();
        if kind == DestinationKind::TempQueue && self.broker.queue(caller, name).is_err() {
            let declaration = QueueDeclaration { exclusive: true, ..QueueDeclaration::default() };
            self.broker.declare_queue(caller, name, declaration)?;
        }
        let temporary = Temporary { kind, connection_id: connection_id.clone() };
        if self.shared.add_temporary(caller.vhost.name(), name, temporary) {
            self.advise_temporary(caller, name, kind, &connection_id, true);
        }
        Ok(Position(0))
    }

    fn remove_temporary(&mut self, caller: &Caller, name: &str, kind: DestinationKind) -> Result<Position, Exception> {
        let Some(temporary) = self.shared.temporary(caller.vhost.name(), name) else { return Ok(Position(0)) };
        if Some(&temporary.connection_id) != self.client.connection_id.as_ref() {
            return Err(Exception::destination("Cannot remove a temporary destination of another connection"));
        }
        if kind == DestinationKind::TempQueue {
            // Whoever still consumes it: ActiveMQ-CPP ends its connections in that order, and ActiveMQ lets it.
            match self.broker.delete_queue(caller, name, DeleteRule::default()) {
                Ok(_) | Err(Refusal::NotFound(_)) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        if self.shared.remove_temporary(caller.vhost.name(), name) {
            self.advise_temporary(caller, name, kind, &temporary.connection_id, false);
        }
        Ok(Position(0))
    }

    /// The connection's temporary destinations end with it.
    pub(super) fn forget_temporaries(&mut self, caller: &Caller) {
        let Some(connection_id) = self.client.connection_id.clone() else { return };
        for (name, temporary) in self.shared.temporaries(caller.vhost.name(), Some(&connection_id)) {
            if temporary.kind == DestinationKind::TempQueue {
                // It may be gone already, with somebody's hand.
                let _ = self.broker.delete_queue(caller, &name, DeleteRule::default());
            }
            if self.shared.remove_temporary(caller.vhost.name(), &name) {
                self.advise_temporary(caller, &name, temporary.kind, &connection_id, false);
            }
        }
    }
}
