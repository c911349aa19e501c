//! What is scheduled, seen and removed by messages to `ActiveMQ.Scheduler.Management` (`SchedulerBroker.send` in ActiveMQ).
//!
//! `AMQ_SCHEDULER_ACTION` says what is to be done. While it is, the client's next commands wait, and so do answers; each look at
//! what is scheduled is one page, so that others get their turn.

use std::task::Waker;

use broker::{Appointments, Millis, Position, Scheduled, Settlement, Survey, broker::Caller, publish::Batch, schedule};

use super::OpenWireSession;
use crate::{
    ids::DestinationKind,
    lent::Text,
    mapping::{Address, Exception, addresses},
    message::Message,
    notices,
    primitive::{self, Value},
    stored,
    structure::Owned,
};

/// Queues and topics whose names begin so, in whatever case, are for this.
const MANAGEMENT: &str = "ActiveMQ.Scheduler.Management";

const ACTION: &str = "AMQ_SCHEDULER_ACTION";
const START_TIME: &str = "ACTION_START_TIME";
const END_TIME: &str = "ACTION_END_TIME";

/// Something that is being done with what is scheduled.
#[derive(Debug)]
pub(super) struct Errand {
    survey: Survey,
    /// Where copies go of what is found; nowhere if it is to be removed.
    reply_to: Option<(Vec<Address>, DestinationKind)>,
    /// When what was removed is safe.
    position: Position,
}

/// What a message asks for.
struct Asked {
    action: String,
    wanted: Appointments,
}

fn asked(question: &Message<'_>) -> Asked {
    let properties = question.marshalled_properties.as_deref().unwrap_or_default();
    let (mut action, mut wanted) = (String::new(), Appointments::default());
    let (mut first, mut last) = (None, None);
    for (name, value) in primitive::entries(properties).into_iter().flatten().map_while(Result::ok) {
        match &*name {
            ACTION => action = text_of(&value).unwrap_or_default(),
            schedule::JOB_ID => wanted.job = text_of(&value),
            START_TIME => first = time_of(&value),
            END_TIME => last = time_of(&value),
            _ => {}
        }
    }
    wanted.within = first.zip(last);
    Asked { action, wanted }
}

fn text_of(value: &Value<'_>) -> Option<String> {
    if let Value::Text(text) = value { Some(text.to_string()) } else { None }
}

fn time_of(value: &Value<'_>) -> Option<Millis> {
    let ms = match value {
        Value::Long(ms) => *ms,
        Value::Int(ms) => (*ms).into(),
        Value::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    Some(Millis(u64::try_from(ms).unwrap_or(0)))
}

impl OpenWireSession {
    /// Begins to do what a message asks for. Returns nothing if it is none that asks, else when what is done is safe.
    pub(super) fn manages_schedule(
        &mut self,
        caller: &Caller,
        question: &Message<'_>,
        batch: &mut Batch<'_>,
    ) -> Result<Option<Position>, Exception> {
        let name = question.destination.as_ref().and_then(|destination| destination.physical_name.as_deref());
        let beginning = name.and_then(|name| name.get(..MANAGEMENT.len()));
        if !beginning.is_some_and(|beginning| beginning.eq_ignore_ascii_case(MANAGEMENT)) {
            return Ok(None);
        }
        // What was sent before counts.
        self.apply(batch);
        let Asked { action, mut wanted } = asked(question);
        let reply_to = match (&*action, &question.reply_to) {
            ("BROWSE", Some(reply_to)) => {
                wanted.job = None;
                Some((addresses(reply_to)?, reply_to.kind))
            }
            ("REMOVE", _) if wanted.job.is_some() || wanted.within.is_some() => None,
            ("REMOVEALL", _) => {
                wanted.job = None;
                None
            }
            _ => return Ok(Some(Position(0))),
        };
        let survey = self.broker.survey_schedule(caller, wanted, reply_to.is_none())?;
        self.errand = survey.map(|survey| Box::new(Errand { survey, reply_to, position: Position(0) }));
        // Mostly that is all there is to do.
        let waker = self.waker.clone().unwrap_or_else(|| Waker::noop().clone());
        Ok(Some(self.go_on(&waker)))
    }

    /// Goes on with what is being done.
    pub(super) fn poll_errand(&mut self, waker: &Waker) {
        if self.errand.is_none() {
            return;
        }
        let position = self.go_on(waker);
        // The last answer is that to the message which asked.
        if let Some(answer) = self.answers.back_mut() {
            answer.position = answer.position.max(position);
        }
    }

    /// Does something with the next page of what is found. Returns when all so far is safe.
    fn go_on(&mut self, waker: &Waker) -> Position {
        let (Some(mut errand), Some(caller)) = (self.errand.take(), self.caller.clone()) else { return Position(0) };
        let (found, mut is_done) = self.broker.next_scheduled(&errand.survey, waker);
        let has_found = !found.is_empty();
        if let Some((to, kind)) = &errand.reply_to {
            let mut visible = found.iter().filter(|one| self.broker.may_see_scheduled(&caller, one, false));
            is_done |= visible.any(|one| self.show_scheduled(&caller, one, (to, *kind)).is_err());
        } else if has_found {
            let may = |one: &Scheduled| self.broker.may_see_scheduled(&caller, one, true);
            let how = |one: &Scheduled| if may(one) { Settlement::Accept } else { Settlement::Release };
            let settled: Vec<_> = found
                .into_iter()
                .map(|one| {
                    let how = how(&one);
                    (one, how)
                })
                .collect();
            errand.position = errand.position.max(self.broker.settle_scheduled(&errand.survey, settled));
        }
        let position = errand.position;
        if is_done {
            self.broker.end_survey(&errand.survey);
            return position;
        }
        self.errand = Some(errand);
        if has_found {
            // There may be more, after others have had their turn.
            waker.wake_by_ref();
        }
        position
    }

    /// Nobody waits any more for what is being done.
    pub(super) fn end_errand(&mut self) {
        if let Some(errand) = self.errand.take() {
            self.broker.end_survey(&errand.survey);
        }
    }

    /// Sends a copy of a scheduled message to who asked for it.
    fn show_scheduled(
        &self,
        caller: &Caller,
        scheduled: &Scheduled,
        (to, kind): (&[Address], DestinationKind),
    ) -> Result<(), Exception> {
        // Without annotations it is as it was sent.
        let view = broker::MessageView { annotations: &[], ..scheduled.message.view() };
        let mut message = stored::restored(&view, &self.broker.codecs(), 0).into_owned();
        message.original_destination = message.destination.take();
        message.message_type = Some("Advisory".into());
        message.expiration = 0;
        if let Some(job) = &scheduled.job {
            let told = vec![(Text::from(schedule::JOB_ID), Value::Text(job.clone().into()))];
            stored::change_properties(&mut message, told, |_| false);
        }
        for address in to {
            let mut copy = message.clone();
            notices::own(&self.settings, &self.shared, address.destination(kind), &mut copy);
            notices::send(&self.broker, caller, address, &mut copy)?;
        }
        Ok(())
    }
}
