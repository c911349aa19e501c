//! Which versions have how much, told a second time and by hand: the bytes of loose frames in which nothing is set.

use super::{encoded, format, pair};
use crate::Command;

/// The length of a frame without its own length and its type code, with each version in which it changes.
type Lengths = &'static [(i32, usize)];

fn check<'a, T: Default + Into<Command<'a>>>(lengths: Lengths) {
    for version in 1..=12 {
        let (_, mut encoder) = pair(format(version, false, false, true));
        let expected = lengths.iter().rfind(|(since, _)| *since <= version).unwrap().1;
        let command = T::default().into();
        assert_eq!(encoded(&mut encoder, &command).len(), 4 + 1 + expected, "{command:?} in version {version}");
    }
}

#[test]
fn frames_grow_with_their_versions() {
    use crate::{connection::*, ids::*, message::*, network::*};

    check::<Box<Message<'_>>>(&[(1, 57), (2, 58), (3, 75), (10, 76)]);
    check::<Box<MessageAck<'_>>>(&[(1, 15), (7, 16)]);
    check::<Box<MessagePull<'_>>>(&[(1, 15), (3, 17)]);
    check::<MessageDispatch<'_>>(&[(1, 12)]);
    check::<Box<BrokerInfo<'_>>>(&[(1, 12), (2, 22), (3, 24)]);
    check::<Box<ConnectionInfo<'_>>>(&[(1, 12), (2, 13), (6, 15), (8, 16)]);
    check::<Box<ConsumerInfo<'_>>>(&[(1, 28), (4, 29), (10, 30)]);
    check::<ProducerInfo<'_>>(&[(1, 8), (2, 9), (3, 13)]);
    check::<RemoveInfo<'_>>(&[(1, 6), (5, 14)]);
    check::<ConsumerControl<'_>>(&[(1, 11), (2, 14), (6, 15)]);
    check::<ConnectionControl<'_>>(&[(1, 10), (6, 13), (8, 14)]);
    check::<Box<SubscriptionInfo<'_>>>(&[(1, 4), (3, 5), (11, 6)]);
    check::<NetworkBridgeFilter<'_>>(&[(1, 5), (10, 9)]);
    check::<MessageId<'_>>(&[(1, 17), (10, 18)]);
}

#[test]
fn a_blob_has_three_fields_more() {
    use crate::message::{Message, MessageKind};

    let (_, mut encoder) = pair(format(12, false, false, true));
    let message = Message { kind: MessageKind::Blob, ..Message::default() };
    assert_eq!(encoded(&mut encoder, &Box::new(message).into()).len(), 4 + 1 + 76 + 3);
}
