//! Consumers without prefetch, which ask for each message.

use broker::{Position, session::Millis};

use super::OpenWireSession;
use crate::{mapping::Exception, message::MessagePull, structure::Owned};

impl OpenWireSession {
    /// A consumer asks for a message. If there is none in time, it is told so.
    pub(super) fn pull(&mut self, pull: &MessagePull<'_>, now: Millis) -> Result<Position, Exception> {
        let Some(id) = pull.consumer_id.clone().map(Owned::into_owned) else { return Ok(Position(0)) };
        let Some(consumer) = self.consumers.get(&id) else { return Ok(Position(0)) };
        let number = consumer.number;
        let attachments = {
            let mut state = self.outgoing.lock();
            let Some(out) = state.consumer(number).filter(|out| out.pulls) else { return Ok(Position(0)) };
            if !std::mem::replace(&mut out.is_pulling, true) {
                out.credit.give(1);
            }
            out.attachments()
        };
        attachments.iter().for_each(|attachment| self.broker.resume(attachment));
        match pull.timeout {
            0 => {}
            // Not at all, but for what is there and has to be read from the disk.
            timeout if timeout < 0 => {
                let waits = attachments.iter().any(|attachment| self.broker.counts(&attachment.queue).ready > 0);
                if !waits {
                    self.end_pull(number);
                }
            }
            timeout => {
                self.pulls.insert((now.plus(timeout as u64), number));
            }
        }
        Ok(Position(0))
    }

    /// Ends pulls whose time is over.
    pub(super) fn expire_pulls(&mut self, now: Millis) {
        while let Some(&(at, number)) = self.pulls.first()
            && at <= now
        {
            self.pulls.pop_first();
            self.end_pull(number);
        }
    }

    /// Ends a pull without a message, unless one has come.
    fn end_pull(&mut self, number: u32) {
        let mut state = self.outgoing.lock();
        let Some(out) = state.consumer(number) else { return };
        // Who takes the credit back has it: no message can come for it any more.
        if out.is_pulling && out.credit.take() == Some(true) {
            out.is_pulling = false;
            state.send_nothing(number);
        }
    }
}
