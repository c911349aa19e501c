//! Advisories: messages on topics that tell what happens in the broker. Clients need those of temporary destinations: they do
//! not send to one that they have not been told of.

use std::sync::Arc;

use broker::{
    Message as Kept, MessageView,
    broker::Caller,
    publish::{Batch, Body},
};

use super::{OpenWireSession, send::TOPICS};
use crate::{
    ORIGIN,
    command::Command,
    connection::DestinationInfo,
    ids::{ConnectionId, Destination, DestinationKind, MessageId, ProducerId},
    lent::Text,
    mapping::{Address, matches},
    message::{Message, MessageDispatch},
    primitive::{self, Value},
    stored::Published,
};

/// What topics of advisories begin with.
const ADVISORY: &str = "ActiveMQ.Advisory.";

/// Whether an address is one of advisories.
pub(super) fn is_advisory(address: &Address) -> bool {
    matches!(address, Address::Topic(name) if name.starts_with(ADVISORY))
}

/// The topic that tells of temporary destinations of a kind.
fn topic_of(kind: DestinationKind) -> &'static str {
    if kind.is_topic() { "ActiveMQ.Advisory.TempTopic" } else { "ActiveMQ.Advisory.TempQueue" }
}

impl OpenWireSession {
    /// Tells everybody of a temporary destination that has come or gone.
    pub(super) fn advise_temporary(
        &mut self,
        caller: &Caller,
        name: &str,
        kind: DestinationKind,
        connection_id: &str,
        is_new: bool,
    ) {
        let mut message = self.temporary_advisory(name, kind, connection_id, is_new);
        let (properties, payload) = self.storer.store(&mut message);
        let topic = topic_of(kind);
        // Whoever may have the destination may have others told of it.
        let Ok(operator) = self.broker.operator(caller.vhost.name()) else { return };
        let Ok(route) = self.broker.route(&operator, TOPICS, &[topic], &Published(&properties)) else { return };
        if !route.leads_somewhere() {
            return;
        }
        let kept = Kept::copy_of(&MessageView {
            exchange: &route.exchange,
            routing_key: topic,
            origin: ORIGIN,
            durable: false,
            priority: None,
            arrived: self.broker.now(),
            due: None,
            properties: &properties,
            annotations: &[],
            payload: &payload,
            block: None,
        });
        let mut batch = Batch::default();
        batch.publish(Arc::new(route), Body::Owned(Arc::new(kept)), 0);
        self.broker.apply(&mut batch);
    }

    /// Tells a new consumer of advisories of the temporary destinations that are there.
    pub(super) fn replay_temporaries(&mut self, addresses: &[Address], number: u32) {
        let Some(caller) = self.caller.clone() else { return };
        for (name, temporary) in self.shared.temporaries(caller.vhost.name(), None) {
            let topic = topic_of(temporary.kind);
            if !addresses.iter().any(|address| matches(address.name(), topic)) {
                continue;
            }
            let message = self.temporary_advisory(&name, temporary.kind, &temporary.connection_id, true);
            let mut state = self.outgoing.lock();
            let Some(id) = state.consumer(number).map(|out| out.id().clone()) else { return };
            let dispatch = MessageDispatch {
                consumer_id: Some(id),
                destination: message.destination.clone(),
                message: Some(Box::new(message)),
                ..MessageDispatch::default()
            };
            drop(state);
            self.answer(broker::Position(0), super::Told::Command(Box::new(dispatch.into())));
        }
    }

    fn temporary_advisory(
        &self,
        name: &str,
        kind: DestinationKind,
        connection_id: &str,
        is_new: bool,
    ) -> Message<'static> {
        let broker_id = format!("ID:{}", self.settings.broker_name);
        let producer_id = ProducerId { connection_id: Some(broker_id.clone().into()), value: 0, session_id: 0 };
        let info = DestinationInfo {
            connection_id: Some(ConnectionId { value: Some(connection_id.to_owned().into()) }),
            destination: Some(Destination { kind, physical_name: Some(name.to_owned().into()) }),
            operation_type: i8::from(!is_new),
            ..DestinationInfo::default()
        };
        let text = |text: &str| Value::Text(Text::from(text.to_owned()));
        let origin: [(Text<'_>, Value<'_>); 3] = [
            ("originBrokerId".into(), text(&broker_id)),
            ("originBrokerName".into(), text(&self.settings.broker_name)),
            ("originBrokerURL".into(), text(&format!("tcp://{}", self.peer.local))),
        ];
        let mut properties = Vec::new();
        let marshalled_properties = primitive::put_map(&mut properties, &origin).is_ok().then(|| properties.into());
        let now = self.broker.now().0 as i64;
        Message {
            destination: Some(Destination { kind: DestinationKind::Topic, physical_name: Some(topic_of(kind).into()) }),
            message_id: Some(MessageId {
                producer_id: Some(producer_id.clone()),
                producer_sequence_id: self.shared.next_advisory(),
                ..MessageId::default()
            }),
            producer_id: Some(producer_id),
            message_type: Some("Advisory".into()),
            data_structure: Some(Box::new(Command::DestinationInfo(info))),
            marshalled_properties,
            timestamp: now,
            arrival: now,
            ..Message::default()
        }
    }
}
