//! What is scheduled in a vhost, for whoever wants to see or to remove some of it.
//!
//! A [`Survey`] is a browser of the queue without a name that has it, so that however much there is, a page at a time is looked at,
//! and what is on disk alone is read as it comes to that. One that is to remove messages holds each until it is settled.

use std::{fmt, mem, sync::Arc, task::Waker};

use parking_lot::Mutex;

use super::{Attachment, Broker, Caller, delays::SCHEDULES};
use crate::{
    identity::Access,
    log::Position,
    message::{Message, MessageView},
    outlet::{Chunks, ConsumerKey, Delivery, Outlet, Pressure},
    publish::Batch,
    queue::{Browses, Consumer, Credit, Filter, Settlement, Start},
    refusal::Refusal,
    schedule::JOB_ID,
    session::Millis,
    value::Value,
};

/// Messages of a page at most.
const PAGE_MESSAGES: usize = 256;

/// Bytes after which a page has no more messages.
const PAGE_BYTES: usize = 1 << 20;

/// Which scheduled messages are meant: all of them, or those of one job, or those that come within a time.
#[derive(Clone, Debug, Default)]
pub struct Appointments {
    /// The job.
    pub job: Option<String>,
    /// The first moment, and the last.
    pub within: Option<(Millis, Millis)>,
}

impl Appointments {
    fn have(&self, message: &MessageView<'_>) -> bool {
        let is_within = |(first, last)| message.due.is_some_and(|due| first <= due && due <= last);
        self.within.is_none_or(is_within) && self.job.as_ref().is_none_or(|job| job_of(message).as_deref() == Some(job))
    }
}

/// The job of a scheduled message, if it has one.
fn job_of(message: &MessageView<'_>) -> Option<String> {
    message.annotation_table().get(JOB_ID).and_then(Value::as_text).map(str::to_owned)
}

/// A scheduled message.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// The message. It is due when it comes next.
    pub message: Arc<Message>,
    /// Its job.
    pub job: Option<String>,
    /// Its place in its queue and its record there, to settle it by.
    place: (u64, Position),
}

/// A look at what is scheduled.
pub struct Survey {
    attachment: Attachment,
    page: Arc<Page>,
}

impl fmt::Debug for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Survey").finish_non_exhaustive()
    }
}

/// Gathers what a survey finds.
#[derive(Debug, Default)]
struct Page(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    messages: Vec<Scheduled>,
    bytes: usize,
    is_last: bool,
    waker: Option<Waker>,
}

impl Outlet for Page {
    fn deliver(&self, delivery: &Delivery<'_>, wakes: &mut Vec<Waker>) -> Pressure {
        let message = Arc::new(Message::copy_of(delivery.message));
        let (job, place) = (job_of(delivery.message), (delivery.slot, delivery.record));
        let mut found = self.0.lock();
        found.bytes += message.memory_bytes();
        found.messages.push(Scheduled { message, job, place });
        wakes.extend(found.waker.take());
        let is_full = found.messages.len() >= PAGE_MESSAGES || found.bytes >= PAGE_BYTES;
        if is_full { Pressure::High } else { Pressure::Low }
    }

    fn cancelled(&self, consumer: ConsumerKey, wakes: &mut Vec<Waker>) {
        self.browsed(consumer, wakes);
    }

    fn browsed(&self, _: ConsumerKey, wakes: &mut Vec<Waker>) {
        let mut found = self.0.lock();
        found.is_last = true;
        wakes.extend(found.waker.take());
    }

    fn revoked(&self, _: ConsumerKey, _: u64) {}

    fn drain(&self, _: &mut Chunks, _: &Waker) -> bool {
        false
    }

    fn pending_bytes(&self) -> usize {
        0
    }
}

impl Broker {
    /// Begins to look at what is scheduled in the caller's vhost now. If it is to `remove` messages, each that comes has to be
    /// settled. Nothing if nothing was ever scheduled there.
    ///
    /// # Errors
    /// If too many look already.
    pub fn survey_schedule(
        &self,
        caller: &Caller,
        wanted: Appointments,
        remove: bool,
    ) -> Result<Option<Survey>, Refusal> {
        let Some(queue) = self.delay_queue(caller.vhost.name(), SCHEDULES) else { return Ok(None) };
        let page = Arc::<Page>::default();
        let consumer = Consumer {
            outlet: Arc::clone(&page) as Arc<dyn Outlet>,
            key: ConsumerKey(0),
            session: caller.session,
            settles_itself: false,
            exclusive: false,
            single_active: false,
            groups: None,
            priority: 0,
            timeout_ms: None,
            start: Start::default(),
            filter: Some(Filter::new(move |message| wanted.have(message))),
            browses: Some(if remove { Browses::Holds } else { Browses::Copies }),
            prefetch: 0,
            shared: Arc::<Credit>::default(),
        };
        let consumer = self.shards[self.shard_index(queue.id)].lock().attach(&queue, consumer, self.now())?;
        Ok(Some(Survey { attachment: Attachment { queue, consumer }, page }))
    }

    /// The next messages of a survey, and whether there are no more behind them. If there are none so far, `waker` is woken.
    pub fn next_scheduled(&self, survey: &Survey, waker: &Waker) -> (Vec<Scheduled>, bool) {
        survey.page.0.lock().waker = Some(waker.clone());
        self.resume(&survey.attachment);
        let mut found = survey.page.0.lock();
        found.bytes = 0;
        (mem::take(&mut found.messages), found.is_last)
    }

    /// Removes held messages, or leaves them as they were.
    pub fn settle_scheduled(
        &self,
        survey: &Survey,
        messages: impl IntoIterator<Item = (Scheduled, Settlement)>,
    ) -> Position {
        let mut batch = Batch::transaction();
        for (Scheduled { place: (slot, record), .. }, how) in messages {
            batch.settle(&survey.attachment.queue, None, how, slot, record);
        }
        self.apply(&mut batch).position
    }

    /// Ends a survey. What has not been taken of it stays as it was.
    pub fn end_survey(&self, survey: &Survey) {
        let Attachment { queue, consumer } = &survey.attachment;
        let mut after = self.aftermath();
        self.shards[self.shard_index(queue.id)].lock().detach(queue, *consumer, &mut after);
        self.finish(after);
        let left = mem::take(&mut survey.page.0.lock().messages);
        self.settle_scheduled(survey, left.into_iter().map(|message| (message, Settlement::Release)));
    }

    /// Whether a caller may see a scheduled message: whether he may consume what it will be in its queue, or in its topic. To
    /// `remove` it he must be allowed to send it as well.
    pub fn may_see_scheduled(&self, caller: &Caller, scheduled: &Scheduled, remove: bool) -> bool {
        let view = scheduled.message.view();
        let key = self.codecs.routing_key(&view);
        let needed = [Some(Access::Read), remove.then_some(Access::Write)];
        needed.into_iter().flatten().all(|access| self.may_use(caller, access, (view.exchange, &key)))
    }
}
